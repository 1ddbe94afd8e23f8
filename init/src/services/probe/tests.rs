//! Probes against servers on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Serves these answers, one connection for each list; each request gets the next one.
async fn serve(connections: Vec<Vec<&'static str>>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                assert!(request.starts_with(b"GET /readyz?exclude=x HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        // A server that accepts and says nothing more.
        let _silent = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    Target::new(Request::Http {
        address,
        path: "/readyz?exclude=x".to_owned(),
    })
}

fn unhealthy(answer: Answer) -> String {
    match answer {
        Answer::Unhealthy(said) => said,
        Answer::Healthy => panic!("it should not be healthy"),
    }
}

#[tokio::test]
async fn tells_well_from_unwell_over_one_connection() {
    let target = serve(vec![vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 45\r\n\r\n[+]ping ok\n[-]etcd failed: reason\n[-]x failed",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ]])
    .await;
    assert_eq!(target.ask(TIMEOUT).await, Answer::Healthy);
    assert_eq!(
        unhealthy(target.ask(TIMEOUT).await),
        "503 Service Unavailable: [-]etcd failed: reason, [-]x failed"
    );
    assert_eq!(target.ask(TIMEOUT).await, Answer::Healthy);
}

#[tokio::test]
async fn connects_again_to_a_restarted_service() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let target = serve(vec![vec![answer], vec![answer, answer]]).await;
    for _ in 0..3 {
        assert_eq!(target.ask(TIMEOUT).await, Answer::Healthy);
    }
}

#[tokio::test]
async fn does_not_wait_longer_than_it_may() {
    let target = serve(vec![]).await;
    let said = unhealthy(target.ask(Duration::from_millis(50)).await);
    assert_eq!(said, "no answer within 50.0ms");
}

#[tokio::test]
async fn says_that_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = Target::new(Request::Http {
        address,
        path: "/".to_owned(),
    });
    let said = unhealthy(target.ask(TIMEOUT).await);
    assert!(
        said.starts_with(&format!("cannot connect to {address}: ")),
        "{said}"
    );
}

#[tokio::test]
async fn names_the_file_that_it_cannot_read() {
    let request = Request::Https {
        address: ([127, 0, 0, 1], 1).into(),
        path: "/".to_owned(),
        authority: "/nonexistent/ca.crt".into(),
        client: ClientCertificate {
            certificate: "/a".into(),
            key: "/b".into(),
        },
    };
    let said = unhealthy(Target::new(request).ask(TIMEOUT).await);
    assert!(said.contains("/nonexistent/ca.crt"), "{said}");
}

#[test]
fn the_essence_is_short() {
    assert_eq!(essence("\n  starting \u{7}up\nmore"), "starting up");
    assert_eq!(essence(""), "");
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
        "message":"forbidden: User \"x\" cannot get path \"/readyz\"","reason":"Forbidden","code":403}"#;
    assert_eq!(
        essence(status),
        "forbidden: User \"x\" cannot get path \"/readyz\""
    );
    assert_eq!(essence("{\"health\":\"false\"}"), "{\"health\":\"false\"}");
    assert_eq!(essence(&"x".repeat(1000)).len(), TOLD_LIMIT);
}
