//! Comparing the tables with what a running node has.
