//! What was found: collected over the rounds, shown as a table of medians, kept whole as JSON.

use std::{fs, path::Path};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use super::{
    cases::{Case, Figure, percentile},
    failure::{Context, Outcome},
    plan::Plan,
    servers::Side,
};

/// All figures of a run.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// One figure, in all rounds, of both servers.
struct Row {
    case: Case,
    name: &'static str,
    unit: &'static str,
    signalbox: Vec<f64>,
    bare: Vec<f64>,
}

impl Report {
    /// Takes what one run of a case found.
    pub fn add(&mut self, case: Case, side: Side, figures: Vec<Figure>) {
        for Figure { name, unit, value } in figures {
            let known = self.rows.iter().position(|row| row.case == case && row.name == name);
            let at = known.unwrap_or_else(|| {
                self.rows.push(Row { case, name, unit, signalbox: Vec::new(), bare: Vec::new() });
                self.rows.len() - 1
            });
            match side {
                Side::Signalbox => self.rows[at].signalbox.push(value),
                Side::Bare => self.rows[at].bare.push(value),
            }
        }
    }

    /// The medians as a table in Markdown, with the ratio and how far the rounds lie apart.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["", "measure", "figure", "signalbox", "bare tonic", "ratio", "rounds"]);
        for column in table.column_iter_mut().skip(3).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            let number = row.case.measure().to_string();
            let shown =
                |values: &[f64]| format!("{} {}", rounded(median(values)), row.unit).trim_end().to_owned();
            let (signalbox, bare) = (shown(&row.signalbox), shown(&row.bare));
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let spread = format!("{}, {}", span(&row.signalbox), span(&row.bare));
            table.add_row([
                number,
                row.case.to_string(),
                row.name.to_owned(),
                signalbox,
                bare,
                ratio,
                spread,
            ]);
        }
        table.to_string()
    }

    /// Writes every figure of every round.
    pub fn write_json(&self, plan: &Plan, file: &Path) -> Outcome<()> {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let cores = std::thread::available_parallelism()?.get();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let report = json!({ "cores": cores, "generator_build": build, "rounds": plan.rounds, "rows": rows });
        fs::write(file, format!("{report:#}\n")).context(file.display())
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let bare = median(&self.bare);
        (bare > 0.0).then(|| median(&self.signalbox) / bare)
    }

    fn json(&self) -> Value {
        json!({
            "measure": self.case.measure(),
            "case": self.case.to_string(),
            "figure": self.name,
            "unit": self.unit,
            "signalbox": { "median": median(&self.signalbox), "rounds": self.signalbox },
            "bare_tonic": { "median": median(&self.bare), "rounds": self.bare },
            "ratio": self.ratio(),
        })
    }
}

pub fn median(values: &[f64]) -> f64 {
    percentile(&mut values.to_vec(), 0.5)
}

/// Three digits that count.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// From the least to the greatest.
pub fn span(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{}..{}", rounded(least), rounded(most))
}
