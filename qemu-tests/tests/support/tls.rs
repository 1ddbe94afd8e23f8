//! Servers asked over TLS by somebody who has nothing but the certificate of an authority: a load balancer.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// Who asks: whom it trusts, and how long it waits.
#[derive(Clone)]
pub(crate) struct Client {
    configuration: Arc<ClientConfig>,
    timeout: Duration,
}

impl Client {
    /// Trusts that authority.
    pub(crate) fn of(authority_pem: &[u8], timeout: Duration) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority_pem).expect("a certificate");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(ring::default_provider());
        let mut configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A session that is resumed shows the certificate that it began with, though the server has another one by now.
        configuration.resumption = Resumption::disabled();
        Self {
            configuration: Arc::new(configuration),
            timeout,
        }
    }

    /// The certificate, in DER, that a server of that name shows, verified.
    pub(crate) fn certificate(&self, server: SocketAddr, name: &str) -> io::Result<Vec<u8>> {
        let (mut tls, mut tcp) = self.connect(server, name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let shown = tls.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other("no certificate"))?;
        Ok(shown.to_vec())
    }

    /// The status of the answer to a GET, over a connection of its own to a server of that name.
    pub(crate) fn get(&self, server: SocketAddr, name: &str, path: &str) -> io::Result<u16> {
        let (mut tls, mut tcp) = self.connect(server, name)?;
        let mut stream = Stream::new(&mut tls, &mut tcp);
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n")?;
        // `HTTP/1.0 200`
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        let status = String::from_utf8_lossy(&status);
        let number = status.rsplit(' ').next().unwrap_or_default();
        number.parse().map_err(io::Error::other)
    }

    fn connect(&self, server: SocketAddr, name: &str) -> io::Result<(ClientConnection, TcpStream)> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&self.configuration), name);
        let tcp = TcpStream::connect(server)?;
        tcp.set_read_timeout(Some(self.timeout))?;
        Ok((tls.map_err(io::Error::other)?, tcp))
    }
}
