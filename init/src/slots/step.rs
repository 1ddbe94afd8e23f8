//! Which image may follow which: what Kubernetes and etcd can carry through while masters of both run side by side.

use masthead_api::upgrade::Image;

/// Why `next` must not follow `running`, while the other masters run these. None if it may.
///
/// - Kubernetes goes up by one minor version at most, and never down by one: what a newer apiserver has written, an older one may not read; and
///   no two apiservers are more than one minor version apart (kubernetes.io/releases/version-skew-policy).
/// - etcd stays at its minor version: the last member to follow would have the cluster take the new one before its image has shown that it is
///   good, and the way back would be shut.
pub fn refusal(running: &Image, next: &Image, others: &[(String, Image)]) -> Option<String> {
    let of = |what, text: &str| {
        Version::parse(text)
            .ok_or_else(|| format!("its {what} says that it is {text:?}, which is no version"))
    };
    let checked = || {
        let (old, new) = (
            of("Kubernetes", &running.kubernetes)?,
            of("Kubernetes", &next.kubernetes)?,
        );
        old.kubernetes_may_become(new).map_err(|why| {
            format!(
                "it has Kubernetes {}, and {} runs: {why}",
                next.kubernetes, running.kubernetes
            )
        })?;
        for (name, other) in others {
            // What cannot be read there is that master's trouble.
            let Some(other_version) = Version::parse(&other.kubernetes) else {
                continue;
            };
            if new.major != other_version.major || new.minor.abs_diff(other_version.minor) > 1 {
                return Err(format!(
                    "it has Kubernetes {}, and {name} runs {}: they may be one minor version apart at most",
                    next.kubernetes, other.kubernetes
                ));
            }
        }
        let (old, new) = (of("etcd", &running.etcd)?, of("etcd", &next.etcd)?);
        if (old.major, old.minor) != (new.major, new.minor) {
            return Err(format!(
                "it has etcd {}, and {} runs: this release does not take etcd to another minor version, because there would be no way back from it",
                next.etcd, running.etcd
            ));
        }
        Ok(())
    };
    checked().err()
}

/// The two numbers that matter.
#[derive(Clone, Copy, Debug)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Of `v1.36.3`, `1.36.3-rc.1`, `3.6.16+x`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut number = || parts.next()?.parse().ok();
        Some(Self {
            major: number()?,
            minor: number()?,
        })
    }

    fn kubernetes_may_become(self, next: Self) -> Result<(), &'static str> {
        if self.major != next.major {
            return Err("that is another major version");
        }
        if next.minor > self.minor + 1 {
            return Err("it goes up one minor version at a time");
        }
        if next.minor < self.minor {
            return Err(
                "it does not go down a minor version: what the newer one has written, the older one may not read",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(kubernetes: &str, etcd: &str) -> Image {
        Image {
            kubernetes: kubernetes.to_owned(),
            etcd: etcd.to_owned(),
            ..Image::default()
        }
    }

    fn refused(next: (&str, &str), other: &str) -> Option<String> {
        let running = image("v1.36.3", "3.6.16");
        let others = [("m2".to_owned(), image(other, "3.6.16"))];
        refusal(&running, &image(next.0, next.1), &others)
    }

    #[test]
    fn kubernetes_goes_up_one_minor_version_and_to_any_patch() {
        for next in ["v1.36.3", "v1.36.0", "v1.36.9", "v1.37.0-rc.1"] {
            assert_eq!(refused((next, "3.6.16"), "v1.36.3"), None, "{next}");
        }
        for (next, why) in [
            ("v1.38.0", "one minor version at a time"),
            ("v1.35.9", "does not go down"),
            ("v2.36.3", "another major version"),
            ("", "no version"),
            ("1.x", "no version"),
        ] {
            let refused = refused((next, "3.6.16"), "v1.36.3").expect(next);
            assert!(refused.contains(why), "{next}: {refused}");
        }
    }

    #[test]
    fn apiservers_are_one_minor_version_apart_at_most() {
        assert_eq!(refused(("v1.37.0", "3.6.16"), "v1.37.1"), None);
        assert_eq!(refused(("v1.37.0", "3.6.16"), ""), None, "it does not say");
        let why = refused(("v1.37.0", "3.6.16"), "v1.35.2").expect("two apart");
        assert_eq!(
            why,
            "it has Kubernetes v1.37.0, and m2 runs v1.35.2: they may be one minor version apart at most"
        );
    }

    #[test]
    fn etcd_stays_at_its_minor_version() {
        assert_eq!(refused(("v1.36.3", "3.6.1"), "v1.36.3"), None);
        for etcd in ["3.7.0", "3.5.20", "4.6.16", ""] {
            assert!(refused(("v1.36.3", etcd), "v1.36.3").is_some(), "{etcd}");
        }
    }
}
