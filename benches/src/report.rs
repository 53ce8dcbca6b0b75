//! A figure: what was measured, how it spread, what it stands beside, and what it should reach.

use serde::Serialize;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and sizes.
    Lower,
}

/// What a figure stands beside.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// Who; says so where the number is quoted and not of this run.
    pub name: String,
    /// In the figure's unit.
    pub value: f64,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Part of the run (`engine`, `contribute`, …).
    pub part: &'static str,
    /// What was measured.
    pub name: String,
    /// Unit of all its numbers.
    pub unit: &'static str,
    /// The median of the samples.
    pub median: f64,
    /// The smallest sample.
    pub least: f64,
    /// The largest sample.
    pub most: f64,
    /// How many samples.
    pub samples: usize,
    /// Which way is better.
    pub better: Better,
    /// What it stands beside.
    pub peer: Option<Peer>,
    /// Median over the peer's value.
    pub ratio: Option<f64>,
    /// What it should reach, in its unit; or, where the bar is relative, as a ratio.
    pub bar: Option<f64>,
    /// Whether the bar is about the ratio and not about the value.
    pub bar_is_ratio: bool,
    /// Whether the bar was reached.
    pub reached: Option<bool>,
}

impl Figure {
    /// A figure of at least one sample.
    ///
    /// # Panics
    /// Without samples.
    #[must_use]
    pub fn new(
        part: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        samples: &[f64],
    ) -> Figure {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            panic!("a figure needs samples");
        };
        Figure {
            part,
            name: name.into(),
            unit,
            median: quantile(&sorted, 0.5),
            least,
            most,
            samples: sorted.len(),
            better,
            peer: None,
            ratio: None,
            bar: None,
            bar_is_ratio: false,
            reached: None,
        }
    }

    /// Sets it beside a peer.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, value: f64) -> Figure {
        self.ratio = Some(self.median / value);
        self.peer = Some(Peer {
            name: name.into(),
            value,
        });
        self
    }

    /// Says what it should reach.
    #[must_use]
    pub fn bar(mut self, bar: f64) -> Figure {
        self.bar = Some(bar);
        self.reached = Some(self.reaches(self.median, bar));
        self
    }

    /// Says which ratio to its peer it should reach.
    #[must_use]
    pub fn bar_ratio(mut self, bar: f64) -> Figure {
        self.bar = Some(bar);
        self.bar_is_ratio = true;
        self.reached = self.ratio.map(|ratio| self.reaches(ratio, bar));
        self
    }

    fn reaches(&self, value: f64, bar: f64) -> bool {
        match self.better {
            Better::Higher => value >= bar,
            Better::Lower => value <= bar,
        }
    }

    fn row(&self) -> [String; 7] {
        let relation = if self.better == Better::Higher { "≥" } else { "≤" };
        let bar = self
            .bar
            .map(|bar| format!("{relation} {}{}", shown(bar), if self.bar_is_ratio { " ×" } else { "" }));
        let reached = match self.reached {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [
            format!("{}: {}", self.part, self.name),
            format!("{} {}", shown(self.median), self.unit),
            format!("{} – {}", shown(self.least), shown(self.most)),
            self.peer
                .as_ref()
                .map(|peer| format!("{} ({})", shown(peer.value), peer.name))
                .unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.2} ×")).unwrap_or_default(),
            bar.unwrap_or_default(),
            reached.to_owned(),
        ]
    }
}

/// All figures as a Markdown table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let head = ["figure", "median", "least – most", "peer", "ratio", "bar", "reached"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = format!("|{}|\n", widths.map(|width| "-".repeat(width + 2)).join("|"));
    let mut text = line(&rows[0]);
    text.push_str(&rule);
    text.extend(rows[1..].iter().map(line));
    text
}

/// The value below which `share` of the sorted samples lie.
///
/// # Panics
/// Without samples.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().checked_sub(1).expect("a quantile needs samples");
    let at = share * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Three significant digits, and no more than a reader needs.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(quantile(&[1.0, 2.0, 9.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn bars_look_the_right_way() {
        let slow = Figure::new("x", "time", "ms", Better::Lower, &[6.0]).bar(5.0);
        assert_eq!(slow.reached, Some(false));
        let fast = Figure::new("x", "rate", "1/s", Better::Higher, &[6.0])
            .beside("peer", 5.0)
            .bar_ratio(1.2);
        assert_eq!(fast.reached, Some(true));
    }
}
