//! Fetches files over HTTP, checking their SHA-256 while they arrive.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::digest::Digest;

/// Connections to servers.
pub struct Fetcher {
    agent: ureq::Agent,
}

impl Fetcher {
    /// Trusts Mozilla's list of authorities, and goes through the proxy of the environment.
    pub fn new() -> Self {
        Self {
            agent: ureq::Agent::new_with_defaults(),
        }
    }

    /// Writes what is at `url` to `target`, if it has the expected digest.
    pub fn fetch(&self, url: &str, expected: Digest, target: &Path) -> Result<()> {
        let mut response = self
            .agent
            .get(url)
            .call()
            .with_context(|| format!("fetching {url}"))?;
        let file = std::fs::File::create(target)
            .with_context(|| format!("creating {}", target.display()))?;
        let mut body = Copying {
            source: response.body_mut().with_config().limit(u64::MAX).reader(),
            copy: file,
        };
        let digest = Digest::of_reader(&mut body).with_context(|| format!("fetching {url}"))?;
        ensure!(
            digest == expected,
            "{url} has SHA-256 {digest}, the manifest has {expected}: it is not used"
        );
        Ok(())
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

/// A reader that writes down what was read.
struct Copying<R, W> {
    source: R,
    copy: W,
}

impl<R: Read, W: io::Write> Read for Copying<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{BufRead as _, Write as _};

    /// Serves one body to one client on the loopback interface; returns its address.
    pub(crate) fn serve(status: &'static str, body: impl Into<Vec<u8>>) -> String {
        let body = body.into();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = io::BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).expect("a request") > 2 {
                line.clear();
            }
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut stream = reader.into_inner();
            stream.write_all(head.as_bytes()).expect("writing");
            stream.write_all(&body).expect("writing");
        });
        format!("http://{address}/program")
    }

    #[test]
    fn a_file_with_the_right_digest_arrives() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let target = folder.path().join("program");
        let url = serve("200 OK", b"content");
        Fetcher::new()
            .fetch(&url, Digest::of(b"content"), &target)
            .expect("fetching");
        assert_eq!(std::fs::read(target).expect("reading"), b"content");
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let url = serve("200 OK", b"malice");
        let error = Fetcher::new()
            .fetch(&url, Digest::of(b"content"), &folder.path().join("program"))
            .expect_err("another digest");
        assert!(error.to_string().contains("it is not used"), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_address() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let url = serve("404 Not Found", b"");
        let error = Fetcher::new()
            .fetch(&url, Digest::of(b""), &folder.path().join("program"))
            .expect_err("no file");
        let text = format!("{error:#}");
        assert!(text.contains(&url) && text.contains("404"), "{text}");
    }
}
