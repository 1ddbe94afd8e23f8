//! Whether an apiserver is ready, and since when to a few milliseconds, at little cost.
//!
//! `kubectl get --raw=/readyz` would take a tenth of a second of the processors that the apiserver
//! needs itself. Here one connection asks again and again, as nobody in particular: health paths are open to all.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::error::{Error, Result};

/// Between two questions. An apiserver at its start is busy: more would be felt.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// No answer for so long is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the apiserver behind `address` until it is ready, and returns when that was.
pub fn wait(address: SocketAddr, patience: Duration) -> Result<Instant> {
    let mut apiserver = Asker::new(address, ANSWER_TIMEOUT)?;
    let started = Instant::now();
    loop {
        let last = match apiserver.ask() {
            Ok(status) if is_ready(&status) => return Ok(Instant::now()),
            Ok(status) => status,
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= patience {
            return Err(Error::Impatient {
                what: "an apiserver that is ready".to_owned(),
                waited_seconds: started.elapsed().as_secs_f64(),
                last,
            });
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// One apiserver, asked again and again over one connection.
pub(crate) struct Asker {
    address: SocketAddr,
    configuration: Arc<ClientConfig>,
    timeout: Duration,
    stream: Option<BufReader<StreamOwned<ClientConnection, TcpStream>>>,
}

impl Asker {
    /// Asks nothing yet. An answer that takes longer than `timeout` is none.
    pub(crate) fn new(address: SocketAddr, timeout: Duration) -> Result<Self> {
        Ok(Self {
            address,
            configuration: Arc::new(configuration()?),
            timeout,
            stream: None,
        })
    }

    /// The status line of the answer.
    fn ask(&mut self) -> io::Result<String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream
            .get_mut()
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let status = answer(&mut stream)?;
        // Only after a whole answer: the rest of a late one would be taken for the next.
        self.stream = Some(stream);
        Ok(status)
    }

    fn connect(&self) -> io::Result<BufReader<StreamOwned<ClientConnection, TcpStream>>> {
        let tcp = TcpStream::connect_timeout(&self.address, self.timeout)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.timeout))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let tls = ClientConnection::new(Arc::clone(&self.configuration), name)
            .map_err(io::Error::other)?;
        Ok(BufReader::new(StreamOwned::new(tls, tcp)))
    }
}

fn is_ready(status: &str) -> bool {
    status.contains(" 200 ")
}

/// Reads one answer to its end; returns its status line.
fn answer(stream: &mut impl BufRead) -> io::Result<String> {
    let mut status = String::new();
    stream.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    io::copy(&mut stream.take(length), &mut io::sink())?;
    Ok(status.trim().to_owned())
}

fn configuration() -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Refused(format!("no TLS: {error}")))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes whoever answers: the authority that could vouch for it is born in the very boot that is
/// measured, and nothing is told to it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_read_to_its_end_and_no_further() {
        let bytes = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nno\nHTTP/1.1 200 OK\r\n\r\n";
        let mut stream = &bytes[..];
        let status = answer(&mut stream).expect("an answer");
        assert_eq!(status, "HTTP/1.1 500 Internal Server Error");
        assert_eq!(answer(&mut stream).expect("another"), "HTTP/1.1 200 OK");
        assert!(answer(&mut stream).is_err(), "there is no third");
    }

    #[test]
    fn nobody_there_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let error = wait(address, Duration::from_millis(30)).expect_err("nobody");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
