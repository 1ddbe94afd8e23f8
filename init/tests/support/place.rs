//! Places on a wire: network namespaces, each with a thread in it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// What somebody there is asked to do.
type Errand = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub(crate) struct Place {
    errands: mpsc::Sender<Errand>,
    pub(crate) thread: i32,
}

impl Place {
    pub(crate) fn new() -> Self {
        let (errands, todo) = mpsc::channel::<Errand>();
        let (tell, thread) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell.send(gettid().as_raw()).expect("a reader");
            for errand in todo {
                errand();
            }
        });
        let thread = thread.recv().expect("it runs");
        Self { errands, thread }
    }

    pub(crate) fn run<T: Send + 'static>(&self, errand: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, done) = mpsc::channel();
        let errand = Box::new(move || {
            let _ = tell.send(errand());
        });
        self.errands.send(errand).expect("it runs");
        done.recv().expect("it does not panic")
    }

    pub(crate) fn ip(&self, words: &'static str) {
        self.run(move || ip(words));
    }
}

pub(crate) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("ip of iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {error}");
}
