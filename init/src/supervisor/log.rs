//! The supervisor's own log: output like that of a service, so that it is kept and read like one.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

/// The name under which `mastctl logs` finds it.
pub(super) const NAME: &str = "supervisor";
/// Where services write to.
pub(super) const OUTPUT: &str = "/run/masthead/output";

/// Sends everything traced to `OUTPUT/supervisor`. Without that file (PID 1 could not
/// mount the tmpfs) to standard error, which is the console.
pub(super) fn start() {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(format!("{OUTPUT}/{NAME}"));
    let writer: Box<dyn std::io::Write + Send> = match file {
        Ok(file) => Box::new(file) as Box<dyn std::io::Write + Send>,
        Err(_) => Box::new(std::io::stderr()),
    };
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(Mutex::new(writer))
        .init();
}

/// Makes a panic of a task the end of the process. A task that is gone leaves a supervisor that beats and does not do
/// its work: PID 1 must start another. A panic of blocking work is told to the task that waits for it, and goes on.
/// Call it on the main thread, where the tasks run.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("the supervisor panicked: {panic}");
        // The console as well: the log may be what is broken.
        eprintln!("supervisor: panicked: {panic}");
        if std::thread::current().name() == Some("main") {
            std::process::abort();
        }
    }));
}
