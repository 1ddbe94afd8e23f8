//! What a reboot or power-off would do.

use std::fmt::Write as _;

use masthead_api::Reason;
use masthead_api::disruption::Purpose;
use masthead_api::power::{PowerAnswer, PowerPlan};
use serde_json::json;

use super::super::say;
use super::super::session::Session;
use crate::Failure;
use crate::text::harmless;

/// Shows the plans; fails as the command itself would if one of them would be refused.
pub(in crate::commands) fn show(session: &Session, answers: &[PowerAnswer]) -> Result<(), Failure> {
    show_after(session, "", answers)
}

/// The same, after what else there is to say.
pub(in crate::commands) fn show_after(
    session: &Session,
    before: &str,
    answers: &[PowerAnswer],
) -> Result<(), Failure> {
    let plans: Vec<&PowerPlan> = answers.iter().map(|answer| &answer.plan).collect();
    let text: Vec<String> = plans.iter().map(|plan| render(plan)).collect();
    say(
        session.output(),
        &harmless(&format!("{before}{}", text.join("\n"))),
        || json!({ "plans": plans }),
    )?;
    let refused = plans.iter().find(|plan| !plan.refusals.is_empty());
    refused.map_or(Ok(()), |plan| Err(refusal(plan)))
}

fn refusal(plan: &PowerPlan) -> Failure {
    let causes: Vec<_> = plan.refusals.iter().map(|reason| &*reason.cause).collect();
    let remedies = plan.refusals.first();
    Failure::refused(
        format!("{} {}", verb(&plan.purpose), plan.node),
        causes.join(" "),
        remedies.map_or("", |reason| &reason.remedy),
    )
    .with_code("conflict")
}

fn verb(purpose: &Purpose) -> &str {
    match purpose {
        Purpose::Reboot => "reboot",
        Purpose::PowerOff => "power off",
        Purpose::Upgrade => "upgrade",
        Purpose::Rollback => "roll back",
        Purpose::Other(other) => other,
    }
}

fn render(plan: &PowerPlan) -> String {
    let node = &plan.node;
    let mut lines = Vec::new();
    if let Some(held) = &plan.lock {
        lines.push(format!(
            "{} holds the disruption lock since {}, for: {}",
            held.holder, held.since, held.purpose
        ));
    } else if plan.takes_lock {
        lines.push("takes the disruption lock, which is free".to_owned());
    }
    if !plan.takes_lock {
        lines.push("goes without the disruption lock: there is no etcd to ask for it".to_owned());
    }
    if let Some(image) = &plan.image {
        lines.push(format!(
            "starts Masthead {} with Kubernetes {} next, on trial",
            image.version, image.kubernetes
        ));
    }
    if matches!(plan.purpose, Purpose::Upgrade | Purpose::Rollback) {
        lines.push("puts a snapshot of etcd on its disk".to_owned());
    }
    if let Some(availability) = &plan.availability {
        let leader = availability.leader.as_deref();
        match (leader, &plan.hand_over_to) {
            (None, _) => lines.push("no member of etcd leads".to_owned()),
            (Some(leader), Some(to)) => {
                lines.push(format!("{leader} leads etcd, and hands over to {to} first"));
            }
            (Some(leader), None) if leader == node => {
                lines.push(format!("{leader} leads etcd, and nobody can take over"));
            }
            (Some(leader), None) => lines.push(format!("{leader} leads etcd, and goes on")),
        }
        let (healthy, voters) = (availability.healthy.len(), availability.voters.len());
        let now = survives(availability.spare);
        lines.push(format!(
            "now {healthy} of {voters} voters are healthy: {now}"
        ));
    }
    if !plan.services.is_empty() {
        lines.push(format!("stops {}", plan.services.join(", ")));
    }
    if let Some(spare) = plan.spare_meanwhile {
        lines.push(format!("while {node} is down: {}", survives(spare)));
    }
    if plan.takes_lock {
        lines.push(format!("{node} gives the lock back when it serves again"));
    }
    let mut text = format!("{} {node}:\n", verb(&plan.purpose));
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    for (what, reasons) in [("accepted", &plan.accepted), ("REFUSED", &plan.refusals)] {
        for Reason { code, cause, .. } in reasons {
            let _ = writeln!(text, "  {what}: {code}: {cause}");
        }
    }
    text
}

fn survives(spare: i64) -> String {
    match spare {
        ..0 => "nothing can be written".to_owned(),
        0 => "the cluster survives no more failure".to_owned(),
        1 => "the cluster survives 1 more failure".to_owned(),
        more => format!("the cluster survives {more} more failures"),
    }
}

#[cfg(test)]
mod tests {
    use masthead_api::ReasonCode;
    use masthead_api::Timestamp;
    use masthead_api::cluster::Availability;
    use masthead_api::disruption::Disruption;

    use super::*;

    fn plan() -> PowerPlan {
        let names = ["m1", "m2", "m3"].map(str::to_owned);
        PowerPlan {
            node: "m1".to_owned(),
            purpose: Purpose::Reboot,
            image: None,
            availability: Some(Availability {
                voters: names.to_vec(),
                healthy: names.to_vec(),
                leader: Some("m1".to_owned()),
                spare: 1,
            }),
            spare_meanwhile: Some(0),
            hand_over_to: Some("m2".to_owned()),
            services: vec!["kube-apiserver".to_owned(), "etcd".to_owned()],
            takes_lock: true,
            lock: None,
            refusals: Vec::new(),
            accepted: Vec::new(),
        }
    }

    #[test]
    fn a_plan_is_told_step_by_step() {
        assert_eq!(
            render(&plan()),
            "\
reboot m1:
  takes the disruption lock, which is free
  m1 leads etcd, and hands over to m2 first
  now 3 of 3 voters are healthy: the cluster survives 1 more failure
  stops kube-apiserver, etcd
  while m1 is down: the cluster survives no more failure
  m1 gives the lock back when it serves again
"
        );
    }

    #[test]
    fn a_refusal_names_who_holds_the_lock() {
        let since = Timestamp::from_unix_millis(0);
        let cause = "m2 holds the disruption lock.";
        let refused = PowerPlan {
            lock: Some(Disruption {
                format: 1,
                id: "d".to_owned(),
                holder: "m2".to_owned(),
                machine_id: "machine".to_owned(),
                purpose: Purpose::PowerOff,
                by: "mk1-x".to_owned(),
                since,
            }),
            refusals: vec![Reason::new(ReasonCode::DisruptionUnderWay, since).with_cause(cause)],
            ..plan()
        };
        let text = render(&refused);
        assert!(
            text.contains(
                "m2 holds the disruption lock since 1970-01-01T00:00:00Z, for: power-off"
            ),
            "{text}"
        );
        assert!(text.ends_with("REFUSED: disruption-under-way: m2 holds the disruption lock.\n"));
        let failure = refusal(&refused);
        assert_eq!(failure.exit, crate::Exit::Refused);
        assert_eq!(failure.why, cause);
    }
}
