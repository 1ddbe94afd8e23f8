//! QEMU's control socket (QEMU Machine Protocol: JSON, a message a line).

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long QEMU may take to answer a command; it answers from its main loop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub(super) struct Control {
    stream: Mutex<UnixStream>,
    answers: Mutex<Receiver<Value>>,
}

impl Control {
    /// Connects as soon as QEMU listens, and hands each event to `on_event` until QEMU ends.
    pub(super) fn connect(
        socket: &Path,
        alive: impl Fn() -> bool,
        on_event: impl Fn(&str, &Value) + Send + 'static,
    ) -> io::Result<Self> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if !alive() || begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        let (sender, answers) = mpsc::channel();
        let reader = BufReader::new(stream.try_clone()?);
        thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || listen(reader, &sender, on_event))?;
        let control = Self {
            stream: Mutex::new(stream),
            answers: Mutex::new(answers),
        };
        control.execute("qmp_capabilities", &json!({}))?;
        Ok(control)
    }

    /// Executes a command and returns its answer.
    pub(super) fn execute(&self, command: &str, arguments: &Value) -> io::Result<Value> {
        // One command at a time: answers carry no mark of their own.
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let message = json!({ "execute": command, "arguments": arguments });
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stream, "{message}")?;
        let answer = answers
            .recv_timeout(PATIENCE)
            .map_err(|error| io::Error::other(format!("QEMU did not answer {command}: {error}")))?;
        match answer.get("error") {
            Some(error) => Err(io::Error::other(format!("QEMU refused {command}: {error}"))),
            None => Ok(answer.get("return").cloned().unwrap_or(Value::Null)),
        }
    }
}

fn listen(reader: BufReader<UnixStream>, answers: &Sender<Value>, on_event: impl Fn(&str, &Value)) {
    for line in reader.lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(event) = message.get("event").and_then(Value::as_str) {
            on_event(event, message.get("data").unwrap_or(&Value::Null));
        } else if message.get("QMP").is_none() && answers.send(message).is_err() {
            return;
        }
    }
}
