//! `docs/benchmarks.md`, made from the records, and its pictures.

use std::fmt::Write as _;

use super::{
    cases,
    figure::{Figure, Statistic},
    plot,
    record::{Conditions, Record},
};

/// The page's words. `{{NAME}}` on a line of its own stands for what the case of that name has measured.
const TEMPLATE: &str = include_str!("benchmarks.md.template");

/// A picture of some figures of a case.
struct Picture {
    case: &'static str,
    /// Beside the page.
    file: &'static str,
    title: &'static str,
    /// Of those figures whose name begins like this.
    of: &'static str,
}

const PICTURES: [Picture; 1] = [Picture {
    case: "failover",
    file: "failover.svg",
    title: "Longest time without an acknowledged write",
    of: "power cut",
}];

/// The page. `record` gives the record of a case, if it has one; without, what `before` says of it stays: it was measured elsewhere.
pub fn page(before: &str, record: impl Fn(&str) -> Option<Record>) -> String {
    cases::ALL.iter().fold(TEMPLATE.to_owned(), |page, case| {
        let [begin, end] = marks(case.name);
        let table = record(case.name).map(|record| section(&record));
        let kept = || {
            let (_, rest) = before.split_once(&begin)?;
            Some(rest.split_once(&end)?.0.to_owned())
        };
        let table = table
            .or_else(kept)
            .unwrap_or_else(|| "Not measured yet.\n".to_owned());
        let place = format!("{{{{{}}}}}\n", case.name);
        page.replace(&place, &format!("{begin}{table}{end}"))
    })
}

/// What stands around a case's table, where nobody sees it.
fn marks(case: &str) -> [String; 2] {
    [
        format!("<!-- {case} -->\n"),
        format!("<!-- end of {case} -->\n"),
    ]
}

/// The pictures of the cases that have a record: the file's name beside the page, and what is in it.
pub fn pictures(record: impl Fn(&str) -> Option<Record>) -> Vec<(&'static str, String)> {
    let draw = |picture: &Picture| {
        let record = record(picture.case)?;
        let figures = record.figures.iter();
        let figures: Vec<&Figure> = figures
            .filter(|figure| figure.what.starts_with(picture.of))
            .collect();
        Some((picture.file, plot::distributions(picture.title, &figures)))
    };
    PICTURES.iter().filter_map(draw).collect()
}

fn section(record: &Record) -> String {
    let mut text = String::from(
        "| | unit | runs | min | median | p99 | max | goal | |\n|---|---|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for figure in &record.figures {
        row(&mut text, figure);
    }
    text.push('\n');
    for note in &record.notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(text, "- {}", conditions(&record.conditions));
    text
}

fn row(text: &mut String, figure: &Figure) {
    let statistics = [
        Statistic::Minimum,
        Statistic::Median,
        Statistic::Percentile99,
        Statistic::Maximum,
    ]
    .map(|statistic| figure.statistic(statistic).map_or("–".to_owned(), number));
    let goals = figure.goals.iter();
    let goals: Vec<String> = goals
        .map(|goal| format!("{} ≤ {}", goal.of, goal.at_most))
        .collect();
    let verdict = match figure.is_met() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {verdict} |",
        figure.what,
        figure.unit,
        figure.samples.len(),
        statistics.join(" | "),
        goals.join(", "),
    );
}

/// With three significant digits or more.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 1.0 => 3,
        middle if middle < 100.0 => 2,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn conditions(conditions: &Conditions) -> String {
    let Conditions {
        date,
        commit,
        processor,
        processors,
        memory_mib,
        kernel,
        qemu,
        load_before,
        busy_before,
    } = conditions;
    let disturbed = if conditions.is_quiet() {
        ""
    } else {
        " **The machine was not quiet: these times are longer than they would be.**"
    };
    format!(
        "{date} UTC, commit {commit}; {processors} × {processor}, {memory_mib} MiB, Linux {kernel}, {qemu}; just before, \
         others used {busy_before:.0} % of the processors, and the load was {load_before:.2}.{disturbed}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_place_and_nothing_is_invented() {
        let empty = page("", |_| None);
        assert!(!empty.contains("{{"), "{empty}");
        assert_eq!(empty.matches("Not measured yet.").count(), cases::ALL.len());
    }

    #[test]
    fn what_was_measured_elsewhere_stays() {
        let [begin, end] = marks("size");
        let before = format!("{begin}| UKI | 60 MB |\n{end}");
        let after = page(&before, |_| None);
        assert!(after.contains(&before), "{after}");
        assert_eq!(
            after.matches("Not measured yet.").count(),
            cases::ALL.len() - 1
        );
    }

    #[test]
    fn a_missed_goal_is_said() {
        let mut text = String::new();
        let figure = Figure::new("UKI", "MB", vec![71.0]).goal(Statistic::Maximum, 70.0);
        row(&mut text, &figure);
        assert_eq!(
            text,
            "| UKI | MB | 1 | 71.00 | 71.00 | 71.00 | 71.00 | max ≤ 70 | **missed** |\n"
        );
    }
}
