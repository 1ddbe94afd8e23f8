//! `docs/benchmarks.md`, made from the records.

use std::fmt::Write as _;

use super::{
    cases,
    figure::{Figure, Statistic},
    record::{Conditions, Record},
};

/// The page's words. `{{NAME}}` on a line of its own stands for what the case of that name has measured.
const TEMPLATE: &str = include_str!("benchmarks.md.template");

/// The page. `record` gives the record of a case, if it has one.
pub fn page(record: impl Fn(&str) -> Option<Record>) -> String {
    cases::ALL.iter().fold(TEMPLATE.to_owned(), |page, case| {
        let table = record(case.name).map_or_else(
            || "Not measured yet.\n".to_owned(),
            |record| section(&record),
        );
        page.replace(&format!("{{{{{}}}}}\n", case.name), &table)
    })
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
    let goal = figure.goal.map_or(String::new(), |goal| {
        format!("{} ≤ {}", goal.of, goal.at_most)
    });
    let verdict = match figure.is_met() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {goal} | {verdict} |",
        figure.what,
        figure.unit,
        figure.samples.len(),
        statistics.join(" | "),
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
        let page = page(|_| None);
        assert!(!page.contains("{{"), "{page}");
        assert_eq!(page.matches("Not measured yet.").count(), cases::ALL.len());
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
