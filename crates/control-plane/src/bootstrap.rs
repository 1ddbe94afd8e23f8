//! Objects that every cluster of ours has: applied to the apiserver once it is ready, again and again.

use serde_json::Value;

/// An object for server-side apply.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapObject {
    /// The object's path in the API, without a query.
    pub path: String,
    /// The object.
    pub object: Value,
}

const OBJECTS: &str = include_str!("../../../configs/kubernetes/bootstrap.yaml");

/// The objects, in the order in which they are applied.
pub fn bootstrap_objects() -> Vec<BootstrapObject> {
    serde_norway::Deserializer::from_str(OBJECTS)
        .map(|document| {
            let object: Value = serde::Deserialize::deserialize(document)
                .expect("configs/kubernetes/bootstrap.yaml is parsed by a test");
            BootstrapObject {
                path: path(&object),
                object,
            }
        })
        .collect()
}

/// The path of a cluster-scoped object of a named group.
fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = text(&object["kind"]).to_lowercase() + "s";
    format!(
        "/apis/{}/{resource}/{}",
        text(&object["apiVersion"]),
        text(&object["metadata"]["name"])
    )
}
