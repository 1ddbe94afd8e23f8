//! SPDX 2.3 as JSON: only what the bill of materials uses.

#![expect(
    clippy::struct_field_names,
    reason = "the names are those of the SPDX standard"
)]

use std::collections::BTreeMap;

use serde::Serialize;

use crate::digest::Digest;

/// "Nobody says."
pub(super) const UNKNOWN: &str = "NOASSERTION";

/// The whole document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<ExtractedLicense>,
}

#[derive(Debug, Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

/// One input of the image, or the image itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    supplier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalReference>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: Digest,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalReference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicense {
    license_id: String,
    extracted_text: String,
}

impl Package {
    /// An input of a kind (`debian`, `go`, `crate`, …), which makes its identifier unique.
    pub(super) fn new(kind: &str, name: &str, version: &str) -> Self {
        Self {
            id: format!(
                "SPDXRef-{}",
                identifier(&format!("{kind}-{name}-{version}"))
            ),
            name: name.to_owned(),
            version_info: version.to_owned(),
            supplier: UNKNOWN.to_owned(),
            originator: None,
            download_location: UNKNOWN,
            files_analyzed: false,
            license_concluded: UNKNOWN,
            license_declared: UNKNOWN.to_owned(),
            copyright_text: UNKNOWN,
            source_info: None,
            checksums: Vec::new(),
            external_refs: Vec::new(),
        }
    }

    /// Who hands it out: `Organization: Debian`.
    #[must_use]
    pub(super) fn supplier(mut self, supplier: &str) -> Self {
        supplier.clone_into(&mut self.supplier);
        self
    }

    /// Who wrote it, where that is somebody else.
    #[must_use]
    pub(super) fn originator(mut self, originator: &str) -> Self {
        self.originator = Some(originator.to_owned());
        self
    }

    /// The licence that it declares, as an SPDX expression.
    #[must_use]
    pub(super) fn license(mut self, expression: &str) -> Self {
        expression.clone_into(&mut self.license_declared);
        self
    }

    /// Where exactly it comes from, in words.
    #[must_use]
    pub(super) fn source(mut self, words: String) -> Self {
        self.source_info = Some(words);
        self
    }

    /// SHA-256 of the file that was fetched or made.
    #[must_use]
    pub(super) fn sha256(mut self, digest: Digest) -> Self {
        self.checksums.push(Checksum {
            algorithm: "SHA256",
            checksum_value: digest,
        });
        self
    }

    /// A package URL, by which scanners look for known faults.
    #[must_use]
    pub(super) fn purl(mut self, locator: String) -> Self {
        self.external_refs.push(ExternalReference {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: locator,
        });
        self
    }
}

/// A document about `image`, which contains all of `inputs` and was made with `tools`. `licenses` are the texts of licences
/// that have no identifier with SPDX, by their `LicenseRef-`.
pub(super) fn document(
    image: Package,
    inputs: Vec<Package>,
    tools: Vec<Package>,
    licenses: BTreeMap<String, String>,
    uuid: &str,
    created: String,
) -> Document {
    let relation = |from: &str, kind, to: &str| Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    };
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", &image.id)];
    relationships.extend(
        inputs
            .iter()
            .map(|input| relation(&image.id, "CONTAINS", &input.id)),
    );
    relationships.extend(
        tools
            .iter()
            .map(|tool| relation(&tool.id, "BUILD_TOOL_OF", &image.id)),
    );
    Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: format!("{}-{}", image.name, image.version_info),
        document_namespace: format!("urn:uuid:{uuid}"),
        creation_info: CreationInfo {
            created,
            creators: vec![format!("Tool: imagebuild-{}", env!("CARGO_PKG_VERSION"))],
        },
        packages: std::iter::once(image).chain(inputs).chain(tools).collect(),
        relationships,
        has_extracted_licensing_infos: licenses
            .into_iter()
            .map(|(license_id, extracted_text)| ExtractedLicense {
                license_id,
                extracted_text,
            })
            .collect(),
    }
}

/// Letters, digits, dots and hyphens: what an SPDX identifier may have.
pub(super) fn identifier(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || letter == '.' => letter,
            _ => '-',
        })
        .collect()
}
