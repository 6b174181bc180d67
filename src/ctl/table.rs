//! [`Rows`]: tables, with the last column as wide as the screen leaves it.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, TableStyle};

use super::account::Mood;
use super::screen::{Screen, fit, printable, width};

/// The most columns of the first one, which has names: one of 48 bytes may take more than half the screen.
const MAX_NAME: usize = 24;
/// The fewest columns of the last one that are worth showing.
const MIN_LAST: usize = 8;

/// Rows of a table. The first column has names; the second is coloured; the last is cut.
pub(super) struct Rows {
    headings: Vec<&'static str>,
    /// The columns whose content stands at the right.
    right: &'static [usize],
    rows: Vec<(Vec<String>, Mood)>,
}

impl Rows {
    pub(super) fn new(headings: &[&'static str], right: &'static [usize]) -> Self {
        Self { headings: headings.to_vec(), right, rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are headings.
    pub(super) fn add(&mut self, cells: Vec<String>, mood: Mood) {
        self.rows.push((cells.iter().map(|cell| printable(cell)).collect(), mood));
    }

    /// The lines, in at most so many columns; uncut without a limit.
    pub(super) fn lines(mut self, screen: Screen, columns: Option<usize>) -> Vec<String> {
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        if let Some(columns) = columns {
            self.cut(columns);
        }
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(Row::from(headings));
        for (cells, _) in &self.rows {
            table.add_row(Row::from(cells.clone()));
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&place) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let first = self.widest(0);
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        let moods =
            std::iter::once(None).chain(self.rows.iter().map(|(cells, mood)| cells.get(1).zip(Some(*mood))));
        let coloured = lines.into_iter().zip(moods).map(|(line, mood)| match mood {
            Some((word, mood)) => coloured(&line, first, word, |word| screen.coloured(word, mood)),
            None => line,
        });
        coloured.collect()
    }

    /// Cuts names, and the last column to what is left.
    fn cut(&mut self, columns: usize) {
        for (cells, _) in &mut self.rows {
            if let Some(name) = cells.first_mut() {
                *name = fit(name, MAX_NAME);
            }
        }
        let last = self.headings.len().saturating_sub(1);
        let others: usize = (0..last).map(|column| self.widest(column) + 2).sum();
        let left = columns.saturating_sub(others).max(MIN_LAST);
        for (cells, _) in &mut self.rows {
            if let Some(cell) = cells.get_mut(last) {
                *cell = fit(cell, left);
            }
        }
    }

    fn widest(&self, column: usize) -> usize {
        let heading = self.headings.get(column).map_or(0, |heading| width(heading));
        let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column));
        cells.map(|cell| width(cell)).max().unwrap_or(0).max(heading)
    }
}

/// The line with the word that stands behind the first column in a colour.
fn coloured(line: &str, first: usize, word: &str, colour: impl Fn(&str) -> String) -> String {
    let mut taken = 0;
    let start = line.char_indices().find_map(|(at, c)| {
        let here = (taken >= first + 2).then_some(at);
        taken += width(c.encode_utf8(&mut [0; 4]));
        here
    });
    let behind = start.and_then(|at| Some((at, line.get(at..)?.strip_prefix(word)?)));
    match behind {
        Some((at, rest)) => format!("{}{}{rest}", &line[..at], colour(word)),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[[&str; 3]]) -> Rows {
        let mut rows = Rows::new(&["NAME", "STATE", "REASON"], &[]);
        cells.iter().for_each(|cells| rows.add(cells.map(str::to_owned).into(), Mood::Well));
        rows
    }

    const SCREEN: Screen = Screen { is_terminal: true, shows_progress: true, colours: false };

    #[test]
    fn wide_names_are_aligned_and_the_last_column_is_cut() {
        let cells = [
            ["小明", "running", ""],
            ["bot", "held", "因为密码不对所以没有登录而且还要再说一点点什么才能超过八十列的宽度吧"],
        ];
        let lines = rows(&cells).lines(SCREEN, Some(60));
        assert_eq!(lines[0], "NAME  STATE    REASON");
        assert_eq!(lines[1], "小明  running");
        assert!(lines[2].starts_with("bot   held     因为") && lines[2].ends_with('…'), "{}", lines[2]);
        assert!((59..=60).contains(&width(&lines[2])), "{}", lines[2]);
        assert!(rows(&cells).lines(SCREEN, None)[2].ends_with("宽度吧"));
    }

    #[test]
    fn state_alone_is_coloured() {
        let screen = Screen { colours: true, ..SCREEN };
        let lines = rows(&[["running", "running", "running"]]).lines(screen, Some(80));
        assert_eq!(lines[1], "running  \u{1b}[32mrunning\u{1b}[0m  running");
    }

    #[test]
    fn long_names_leave_room() {
        let name = "名".repeat(16);
        let lines =
            rows(&[[&name, "running", "a reason that says what is the matter"]]).lines(SCREEN, Some(80));
        assert!(lines[1].contains("…  running  a reason that says what is the matter"), "{}", lines[1]);
    }
}
