//! Figures of `docs/benchmarks.md`: measured by cases, each kept with its conditions, and written
//! down from what was kept and nothing else.
//!
//! | module | what it is |
//! |---|---|
//! | [`figure`] | samples of one quantity, their statistics and their goal |
//! | [`record`] | a finished case: figures and the conditions they were taken in |
//! | [`report`] | the page made from the records |
//! | [`plot`] | its pictures |
//! | [`cases`] | the cases |
//! | [`bare`] | `/init` of a node that runs the same programs without Masthead |
//! | `prepared` | a bare cluster of several masters |
//! | `nodes` | nodes to measure |
//! | `keepalived` | keepalived in such nodes, beside Masthead |
//! | `samples` | what a case that takes hours has measured so far |

pub mod bare;
pub mod cases;
pub mod figure;
mod keepalived;
mod nodes;
pub mod plot;
mod prepared;
pub mod record;
pub mod report;
mod samples;

use std::path::PathBuf;

/// What every case needs to know.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The repository.
    pub repository: PathBuf,
    /// The built image.
    pub image: PathBuf,
    /// Where records and scratch are kept.
    pub directory: PathBuf,
    /// How often to measure what is measured one boot at a time.
    pub runs: usize,
    /// Identifies the sources.
    pub sources: String,
}
