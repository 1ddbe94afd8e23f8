//! Runs any set of machines deterministically, in virtual time, with seeded faults.
//!
//! An [`Environment`] plays everything that a machine acts upon: it takes the actions, and
//! schedules events for machines and happenings of its own. It draws every delay and every mishap
//! from the [`Schedule`]; so one seed is one history, and the same seed is the same history again.
//!
//! - A **node** runs one machine at a time; it can [crash](Schedule::crash) (what was on its way to
//!   it is lost) and [boot](Schedule::boot) with another one.
//! - A **mishap** ([`Schedule::mishap`]) is a fault that may happen or not: a lost message, a
//!   crash, a slow start. From a given instant on the world is calm, so that it can be checked
//!   that everything comes to rest.
//! - [`check`] runs many seeds. The first history that fails is replayed with fewer and fewer of
//!   its mishaps, until only those are left that it needs ([`Failure`]).

#![forbid(unsafe_code)]

mod campaign;
mod schedule;
mod simulation;

pub use campaign::{Failure, check, replay};
pub use schedule::{Node, Schedule};
pub use simulation::{Environment, Simulation};
