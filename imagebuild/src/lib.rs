//! Builds the image: from a manifest, a lock and this repository to a unified kernel image.
//!
//! [`command_line`] has the commands, [`steps`] the way of a build; [`cache`] and [`digest`] make a
//! second one short. [`formats`] knows the bytes of files, and opens none; [`media`] makes what a machine boots from.

#![forbid(unsafe_code)]

pub mod archive;
pub mod bundle;
pub mod cache;
pub mod command_line;
pub mod digest;
pub mod fetch;
pub mod files;
pub mod formats;
pub mod inspect;
pub mod lock;
pub mod manifest;
pub mod media;
pub mod process;
pub mod progress;
pub mod sbom;
pub mod steps;
pub mod tools;
