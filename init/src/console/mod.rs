//! The status screen: what the node is, what runs, and what it waits for.
//!
//! [`render()`] is pure: a [`Status`](masthead_api::Status) becomes text, without times that run, so
//! that equal text means that nothing changed. [`Screen`] turns text into what a terminal needs,
//! and [`run`] writes it to the consoles of the machine, at most once per second and never
//! waiting for a terminal.

mod render;
mod screen;
mod terminal;
mod wrap;

#[cfg(test)]
pub(crate) mod examples;

pub use render::render;
pub use screen::{Screen, ScreenKind};
pub use terminal::{Terminal, discover, run};
