//! Virtual addresses that the masters own in turn.
//!
//! - [`gate`]: the kernel's word on who answers for an address;
//! - [`announce`]: the neighbours' word on where it is.
//!
//! Who owns one is `masthead-vip`'s business.

pub mod announce;
pub mod gate;
