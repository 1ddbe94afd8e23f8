//! Distributions as SVG: of each figure the part of its samples, upwards, that took no longer than so many seconds, to the right.

use std::fmt::Write as _;

use super::figure::Figure;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 20.0;
/// Room for the axis and a line for each figure.
const BELOW: f64 = 40.0;
const LINE: f64 = 18.0;

/// Ends of the axis, in seconds; it is logarithmic.
const LEAST: f64 = 0.1;
const MOST: f64 = 100.0;

/// Told apart also by those who see no colours: by the dashes.
const STROKES: [(&str, &str); 9] = [
    ("#0b5fa5", "none"),
    ("#e07b00", "none"),
    ("#6d6d6d", "none"),
    ("#0b5fa5", "8 4"),
    ("#e07b00", "8 4"),
    ("#6d6d6d", "8 4"),
    ("#0b5fa5", "2 3"),
    ("#e07b00", "2 3"),
    ("#6d6d6d", "2 3"),
];

/// A picture of the figures, with their names below.
pub fn distributions(title: &str, figures: &[&Figure]) -> String {
    let figures: Vec<&&Figure> = figures
        .iter()
        .filter(|figure| !figure.samples.is_empty())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let whole = HEIGHT + BELOW + LINE * figures.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {whole}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{whole}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    axes(&mut svg);
    for (place, figure) in figures.iter().enumerate() {
        let (colour, dashes) = STROKES[place % STROKES.len()];
        let stroke = format!(
            "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\""
        );
        let _ = writeln!(svg, "<polyline {stroke} points=\"{}\"/>", steps(figure));
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let y = HEIGHT + BELOW + LINE * place as f64;
        let _ = writeln!(
            svg,
            "<line {stroke} x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\n<text x=\"{}\" y=\"{}\">{} ({})</text>",
            LEFT + 40.0,
            LEFT + 50.0,
            y + 4.0,
            escaped(&figure.what),
            figure.samples.len()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String) {
    for (value, label) in [
        (0.1, "0.1 s"),
        (0.2, "0.2 s"),
        (0.5, "0.5 s"),
        (1.0, "1 s"),
        (2.0, "2 s"),
        (5.0, "5 s"),
        (10.0, "10 s"),
        (20.0, "20 s"),
        (50.0, "50 s"),
        (100.0, "100 s"),
    ] {
        let x = right(value);
        let _ = writeln!(
            svg,
            "<line stroke=\"#ddd\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{HEIGHT}\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT + 18.0
        );
    }
    for (part, label) in [(0.0, "0 %"), (0.5, "50 %"), (0.99, "99 %")] {
        let y = up(part);
        let _ = writeln!(
            svg,
            "<line stroke=\"#ddd\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
}

/// The corners of the distribution's steps.
fn steps(figure: &Figure) -> String {
    let mut sorted = figure.samples.clone();
    sorted.sort_by(f64::total_cmp);
    let mut points = String::new();
    let mut before = 0.0;
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let count = sorted.len() as f64;
    for sample in sorted {
        let x = right(sample);
        let part = before + 1.0 / count;
        let _ = write!(points, "{x:.1},{:.1} {x:.1},{:.1} ", up(before), up(part));
        before = part;
    }
    let _ = write!(points, "{:.1},{:.1}", WIDTH - RIGHT, up(before));
    points
}

fn right(seconds: f64) -> f64 {
    let part = (seconds.clamp(LEAST, MOST) / LEAST).log10() / (MOST / LEAST).log10();
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn up(part: f64) -> f64 {
    HEIGHT - part * (HEIGHT - TOP)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_is_a_step_up_at_its_place() {
        let figure = Figure::new("a <time>", "s", vec![10.0, 0.1, 1.0]);
        assert_eq!(
            steps(&figure),
            "60.0,420.0 60.0,293.3 286.7,293.3 286.7,166.7 513.3,166.7 513.3,40.0 740.0,40.0"
        );
        let none = Figure::new("nothing", "s", Vec::new());
        let svg = distributions("two", &[&figure, &none]);
        assert!(svg.contains("a &lt;time&gt; (3)") && !svg.contains("nothing"));
        assert_eq!(svg.matches("<polyline").count(), 1);
    }
}
