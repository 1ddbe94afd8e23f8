//! Leaf certificates: issuing them and reading them back.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::authority::{BACKDATING, new_key, pair, parse_key};
use crate::{Authority, AuthorityKind, Error, Purpose, Secret, SubjectNames};
use masthead_seed::OperatorKey;

/// How long the leaves of a master are valid. They are renewed by themselves after two thirds of it.
const LEAF_LIFETIME: Duration = Duration::days(365);

/// How long an operator's certificate is valid.
pub const OPERATOR_LIFETIME: Duration = Duration::hours(8);

/// How long a Kubernetes administrator's certificate is valid at most.
pub const KUBERNETES_ADMIN_MAX: Duration = Duration::days(7);

/// The organisation in the certificate of an operator who may do everything with the machines.
pub const MANAGEMENT_ROLE_ADMIN: &str = "masthead:admin";

/// A certificate with its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: Secret,
}

impl Leaf {
    /// Checks that both can be read and belong together.
    pub fn check(&self, of: &str) -> Result<(), Error> {
        let key = parse_key(&self.key_pem, || of.to_owned())?;
        pair(&self.certificate_pem, &key, || of.to_owned()).map(drop)
    }
}

/// Issues the leaf of a master for that purpose. `authority` must be the purpose's.
///
/// # Panics
/// When the authority is another one: that would be a fault of the caller's code.
pub fn issue(
    purpose: Purpose,
    names: &SubjectNames,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<Leaf, Error> {
    assert_eq!(
        authority.kind(),
        purpose.authority(),
        "{} issued by the wrong authority",
        purpose.name()
    );
    let key = new_key(|| purpose.name().to_owned())?;
    let certificate_pem = Request {
        of: purpose.name(),
        common_name: purpose.common_name(),
        organization: purpose.organization(),
        usages: purpose.usages(),
        names,
        lifetime: LEAF_LIFETIME,
    }
    .sign(&key, authority, now)?;
    Ok(Leaf {
        certificate_pem,
        key_pem: Secret::new(key.serialize_pem()),
    })
}

/// Issues an operator's certificate for the management API, for the very key that the operator has; PEM. Its common
/// name is the key's text (`mk1-…`), its organisation [`MANAGEMENT_ROLE_ADMIN`].
pub fn issue_operator(
    operator: OperatorKey,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<String, Error> {
    assert_eq!(
        authority.kind(),
        AuthorityKind::Operators,
        "operators have an authority of their own"
    );
    let public = SubjectPublicKeyInfo::from_der(&crate::operator::public_key_info(operator))
        .map_err(|source| Error::PublicKey { source })?;
    Request {
        of: "an operator",
        common_name: &operator.to_string(),
        organization: Some(MANAGEMENT_ROLE_ADMIN),
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        names: &SubjectNames::default(),
        lifetime: OPERATOR_LIFETIME,
    }
    .sign(&public, authority, now)
}

/// Issues a client certificate for the apiserver, for a key whose public half is given (SubjectPublicKeyInfo,
/// PEM): the private one stays where it was made. Returns PEM.
///
/// `lifetime` is from now on, at most [`KUBERNETES_ADMIN_MAX`].
pub fn issue_kubernetes_admin(
    user: &str,
    group: &str,
    lifetime: Duration,
    public_key_pem: &str,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<String, Error> {
    assert_eq!(
        authority.kind(),
        AuthorityKind::Kubernetes,
        "users of the apiserver are Kubernetes'"
    );
    if !lifetime.is_positive() || lifetime > KUBERNETES_ADMIN_MAX {
        return Err(Error::Lifetime {
            asked_hours: lifetime.whole_hours(),
            most_hours: KUBERNETES_ADMIN_MAX.whole_hours(),
        });
    }
    let public = SubjectPublicKeyInfo::from_pem(public_key_pem)
        .map_err(|source| Error::PublicKey { source })?;
    Request {
        of: user,
        common_name: user,
        organization: Some(group),
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        names: &SubjectNames::default(),
        lifetime,
    }
    .sign(&public, authority, now)
}

/// What a leaf's certificate shall say.
struct Request<'a> {
    of: &'a str,
    common_name: &'a str,
    organization: Option<&'a str>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    names: &'a SubjectNames,
    /// From now on.
    lifetime: Duration,
}

impl Request<'_> {
    fn sign(
        self,
        public_key: &impl PublicKeyData,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<String, Error> {
        let failed = |source| Error::Issue {
            of: self.of.to_owned(),
            source,
        };
        let mut parameters = CertificateParams::default();
        parameters.not_before = now - BACKDATING;
        parameters.not_after = (now + self.lifetime).min(authority.not_after);
        parameters.distinguished_name = DistinguishedName::new();
        if let Some(organization) = self.organization {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        parameters
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        for name in &self.names.dns {
            let name = name.as_str().try_into().map_err(failed)?;
            parameters.subject_alt_names.push(SanType::DnsName(name));
        }
        parameters.subject_alt_names.extend(
            self.names
                .addresses
                .iter()
                .map(|address| SanType::IpAddress(*address)),
        );
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = self.usages;
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters
            .signed_by(public_key, &authority.issuer)
            .map_err(failed)?;
        Ok(certificate.pem())
    }
}

/// What a certificate says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organisations.
    pub organizations: Vec<String>,
    /// The subject alternative names.
    pub names: SubjectNames,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
}

impl Description {
    /// Reads a certificate in PEM.
    pub fn of_pem(certificate_pem: &str) -> Result<Self, Error> {
        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|error| unreadable(error.to_string()))?;
        Self::of_der(&pem.contents)
    }

    /// Reads a certificate in DER, such as the one that a TLS peer presented.
    pub fn of_der(certificate: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| unreadable(error.to_string()))?;
        let subject = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().unwrap_or_default().to_owned()
        };
        let mut names = SubjectNames::default();
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|error| unreadable(error.to_string()))?;
        for name in alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
        {
            match name {
                GeneralName::DNSName(name) => {
                    names.dns.insert((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    let short = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let address = short.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    names.addresses.extend(address);
                }
                _ => {}
            }
        }
        Ok(Self {
            common_name: subject
                .iter_common_name()
                .next()
                .map(text)
                .unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            names,
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
        })
    }
}

fn unreadable(detail: String) -> Error {
    Error::Certificate {
        of: "a certificate".to_owned(),
        detail,
    }
}
