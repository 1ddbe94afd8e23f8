//! Messages of newer releases are read, and kept as they came.

use masthead_api::status::{NodeKind, ServiceState};
use masthead_api::{ApiError, ErrorCode, Reason, ReasonCode, Status, Timestamp};
use serde_json::json;

#[test]
fn a_status_of_a_newer_release_is_read() {
    let newer = json!({
        "format": 2,
        "node": {
            "name": "m1", "kind": "unikernel", "version": "9.0.0",
            "boot_time": "2026-09-21T14:13:20Z", "uptime": 5, "boot_id": "b", "timing_scale": 1.0,
            "supervisor": {"pid": 2, "restarts": 0, "mood": "good"},
        },
        "services": [{"name": "etcd", "state": "meditating", "since": "2026-09-21T14:13:20Z"}],
        "waiting": [{"code": "moon-phase", "cause": "It is new.", "since": "2026-09-21T14:13:20Z"}],
        "horoscope": {"today": "calm"},
    });
    let status: Status = serde_json::from_value(newer).unwrap();
    assert_eq!(status.format, 2);
    assert_eq!(status.node.kind, NodeKind::Other("unikernel".into()));
    assert_eq!(
        status.services[0].state,
        ServiceState::Other("meditating".into())
    );
    assert_eq!(
        status.waiting[0].code,
        ReasonCode::Other("moon-phase".into())
    );

    let written = serde_json::to_value(&status).unwrap();
    assert_eq!(written["waiting"][0]["code"], "moon-phase");
    assert_eq!(written["services"][0]["state"], "meditating");
    let again: Status = serde_json::from_value(written).unwrap();
    assert_eq!(again, status);
}

#[test]
fn a_status_without_its_required_fields_is_refused() {
    let error = serde_json::from_value::<Status>(json!({"format": 1})).unwrap_err();
    assert!(error.to_string().contains("node"), "{error}");
}

#[test]
fn a_reason_carries_its_code_as_a_string() {
    let since = Timestamp::from_unix_millis(0);
    let reason = Reason::new(ReasonCode::DiskForeign, since).with_cause("vda holds ext4");
    let written = serde_json::to_value(&reason).unwrap();
    assert_eq!(
        written,
        json!({
            "code": "disk-foreign",
            "cause": "vda holds ext4",
            "remedy": ReasonCode::DiskForeign.remedy(),
            "since": "1970-01-01T00:00:00Z",
        })
    );
}

#[test]
fn an_error_with_an_unknown_code_counts_as_the_nodes_fault() {
    let error: ApiError =
        serde_json::from_value(json!({"code": "out-of-tea", "message": "no tea left"})).unwrap();
    assert_eq!(error.code, ErrorCode::Other("out-of-tea".into()));
    assert_eq!(error.code.http_status(), 500);
    assert_eq!(error.to_string(), "no tea left (out-of-tea)");
}
