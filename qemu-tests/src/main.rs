//! `lab`: clusters of Masthead on one machine.

fn main() {}
