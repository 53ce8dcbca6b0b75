//! Data to standard output; words, questions and progress to standard error.
//!
//! Colour is for terminals only, and never where `NO_COLOR` is set or `TERM` is `dumb`. A reader of standard output that has
//! seen enough ends the verb without a failure.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{
    command::{Form, Options},
    error::Failure,
};

/// Where data and words go, and in which form.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    form: Form,
    quiet: bool,
    /// Of standard output.
    pub(crate) paint: Paint,
    /// Columns of standard output, where it is a terminal.
    pub(crate) width: Option<usize>,
    paint_words: Paint,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    fn of(terminal: bool) -> Paint {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint(terminal && !set("NO_COLOR") && !dumb)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.code("1;31", text)
    }
}

impl Output {
    pub(crate) fn of(options: &Options) -> Output {
        let terminal = io::stdout().is_terminal();
        Output {
            form: options.output,
            quiet: options.quiet,
            paint: Paint::of(terminal),
            width: terminal.then(columns).flatten(),
            paint_words: Paint::of(io::stderr().is_terminal()),
        }
    }

    /// Whether data are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// All data of a verb: one document, or text for people.
    pub(crate) fn data(&self, json: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.form {
            Form::Json => self.out(&format!("{json:#}\n")),
            Form::Table => self.out(&text()),
        }
    }

    /// One of many data that stream: one object a line, or a line of text.
    pub(crate) fn line(&self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.form {
            Form::Json => self.out(&format!("{}\n", json())),
            Form::Table => self.out(&format!("{}\n", text())),
        }
    }

    /// Text as it is.
    pub(crate) fn out(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::system("writing to standard output", &error),
        })
    }

    /// Words about what was done; not with `--quiet`.
    pub(crate) fn say(&self, words: &str) {
        if !self.quiet {
            let _stderr_is_gone = writeln!(io::stderr(), "{words}");
        }
    }

    /// Why the verb failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if let Failure::Told { .. } = failure {
            let name = self.paint_words.bad("continuum-admin:");
            let _stderr_is_gone = writeln!(io::stderr(), "{name} {failure}");
        }
    }

    /// Asks at the terminal; `None` when there is none.
    pub(crate) fn ask(&self, question: &str) -> Result<Option<bool>, Failure> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let _stderr_is_a_terminal = write!(io::stderr(), "{} [y/N] ", self.paint_words.bold(question));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::system("reading the answer", &error))?;
        Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
    }

    /// A bar of bytes on standard error, where that is a terminal.
    pub(crate) fn bar(&self, doing: &str) -> ProgressBar {
        let target = if self.quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let colour = if self.paint_words.0 { ".cyan" } else { "" };
        let template = format!("{{msg}}  {{bar:30{colour}}} {{bytes}}/{{total_bytes}}  {{eta}}");
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_message(doing.to_owned());
        bar
    }

    /// A count of what was done on standard error, where that is a terminal: for work whose end is not known.
    pub(crate) fn count(&self, doing: &str) -> ProgressBar {
        let bar = self.bar(doing);
        if let Ok(style) = ProgressStyle::with_template("{msg}  {human_pos}  {per_sec}") {
            bar.set_style(style);
        }
        bar
    }

    /// A table: a line of headings, and columns as wide as what they hold. Columns named in `right` hold numbers.
    pub(crate) fn table(&self, headings: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(
            headings
                .iter()
                .map(|heading| (*heading).to_owned())
                .collect::<Vec<String>>(),
        );
        table.add_rows(rows);
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if right.contains(&place) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for (place, line) in table.to_string().lines().enumerate() {
            let line = line.trim_end();
            text.push_str(&if place == 0 {
                self.paint.bold(line)
            } else {
                line.to_owned()
            });
            text.push('\n');
        }
        text
    }

    /// Facts, one a line, their names in one column. An empty name begins a new group; an empty value makes a heading.
    pub(crate) fn facts(&self, facts: &[(&str, String)]) -> String {
        let wide = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, value): &(&str, String)| match (name.is_empty(), value.is_empty()) {
            (true, true) => "\n".to_owned(),
            (false, true) => format!("{}\n", self.paint.bold(name)),
            _ => format!("{}  {value}\n", self.paint.dim(&format!("{name:wide$}"))),
        };
        facts.iter().map(line).collect()
    }
}

/// Columns of the terminal.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
