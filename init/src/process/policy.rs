//! Limits and rights as `configs/node/services.toml` gives them.

use caps::Capability;
use masthead_policy::Service;
use nix::sys::resource::Resource;
use thiserror::Error;

use super::launch::{Account, ResourceLimit, Rights};
use super::leaf::Limits;

/// The table names something that the kernel does not know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("services.toml gives service `{service}` the {kind} `{name}`, which does not exist")]
pub struct InvalidRights {
    service: String,
    kind: &'static str,
    name: String,
}

impl From<&Service> for Limits {
    fn from(service: &Service) -> Self {
        Self {
            memory_max: service.memory_max,
            memory_high: service.memory_high,
            memory_min: service.memory_min,
            pids_max: Some(service.pids_max),
            cpu_weight: service.cpu_weight,
            io_weight: service.io_weight,
        }
    }
}

impl TryFrom<&Service> for Rights {
    type Error = InvalidRights;

    fn try_from(service: &Service) -> Result<Self, InvalidRights> {
        let invalid = |kind, name: &str| InvalidRights {
            service: service.name.clone(),
            kind,
            name: name.to_owned(),
        };
        Ok(Self {
            account: Account {
                user: service.uid,
                group: service.gid,
                groups: service.groups.clone(),
            },
            capabilities: service
                .capabilities
                .iter()
                .map(|name| name.parse().map_err(|_| invalid("capability", name)))
                .collect::<Result<Vec<Capability>, _>>()?,
            resource_limits: service
                .limits
                .iter()
                .map(|(name, &value)| {
                    let resource = resource(name).ok_or_else(|| invalid("limit", name))?;
                    Ok(ResourceLimit {
                        resource,
                        soft: value,
                        hard: value,
                    })
                })
                .collect::<Result<_, _>>()?,
            oom_score_adjust: service.oom_score_adj,
        })
    }
}

/// The resource of that name, which is getrlimit(2)'s in small letters without `RLIMIT_`.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use masthead_policy::Services;

    use super::*;

    #[test]
    fn the_table_of_this_image_is_understood() {
        for service in &Services::embedded().unwrap().services {
            let rights = Rights::try_from(service).unwrap();
            assert_eq!(rights.capabilities.len(), service.capabilities.len());
            assert_eq!(rights.resource_limits.len(), service.limits.len());
        }
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let mut service = Services::embedded().unwrap().services.remove(0);
        service.limits.insert("nofiles".to_owned(), 1);
        let error = Rights::try_from(&service).unwrap_err();
        assert!(error.to_string().contains("limit `nofiles`"), "{error}");
        service.capabilities.push("CAP_EVERYTHING".to_owned());
        let error = Rights::try_from(&service).unwrap_err();
        assert!(
            error.to_string().contains("capability `CAP_EVERYTHING`"),
            "{error}"
        );
    }
}
