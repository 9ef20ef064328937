//! Dumps of a table: rows with named columns, from a JSON array (`json_agg`, `sqlite3 -json`), JSON lines, or CSV with a
//! header (`COPY ... WITH (FORMAT csv, HEADER)`).
//!
//! Knows no table. CSV is read here and not by a crate, because PostgreSQL tells NULL from an empty text by quotes (`,,` from
//! `,"",`), which readers of CSV drop. A NULL that was dumped as the word `NULL` is told from a text in the same way.

use std::collections::BTreeMap;

use super::{
    File, Gathered, Problem, Problems,
    tree::{self, Tree, Wiped},
};
use crate::setting_key;

/// Rows more than any of these tables has.
const MAX_ROWS: usize = 100_000;

/// Columns of a database's own, in which nothing is lost.
const BOOKKEEPING: [&str; 3] = ["id", "created_at", "updated_at"];

/// A row of a table. Column names are in snake_case.
pub struct Row {
    /// Where it stands, for reports: `dump.csv, row 3`.
    pub place: String,
    columns: Wiped,
}

/// Reads the rows of files, which together are one table. What is no row is a problem of its own, beside the others.
///
/// # Errors
/// What is wrong with each file that can't be read, with its line where that is known.
pub fn read(files: &[File], made: &mut Gathered) -> Result<Vec<Row>, Problems> {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut is_empty = true;
    for file in files {
        match rows_of(file) {
            Ok(found) => {
                is_empty &= found.is_empty();
                let taken =
                    found.into_iter().filter_map(|row| row.map_err(|what| made.problems([what])).ok());
                rows.extend(taken);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if is_empty && problems.is_empty() {
        let place = files.first().map_or("input", |file| file.name.as_str());
        return Err(Problems::one(place, "holds no rows"));
    }
    if problems.is_empty() { Ok(rows) } else { Err(Problems(problems)) }
}

fn rows_of(file: &File) -> Result<Vec<Result<Row, Problem>>, Problem> {
    let text = file.text.expose();
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let trees = match text.trim_start().starts_with(['[', '{']) {
        true => json(text).map_err(|what| Problem { place: file.name.clone(), what })?,
        false => csv(text).map_err(|(line, what)| Problem {
            place: format!("{}, line {line}", file.name),
            what: what.to_owned(),
        })?,
    };
    if trees.len() > MAX_ROWS {
        let what = format!("holds more than {MAX_ROWS} rows; give it in parts");
        return Err(Problem { place: file.name.clone(), what });
    }
    let row = |(index, tree): (usize, Tree)| match tree {
        Tree::Map(_) => {
            let place = format!("{}, row {}", file.name, index + 1);
            Ok(Row { place, columns: Wiped(vec![lower(tree)]) })
        }
        other => Err(Problem {
            place: format!("{}, row {}", file.name, index + 1),
            what: format!("is {}; a row is an object with the names of the columns", other.what()),
        }),
    };
    Ok(trees.into_iter().enumerate().map(row).collect())
}

fn json(text: &str) -> Result<Vec<Tree>, String> {
    let documents = tree::parse(text, true).map_err(|error| {
        format!("is not JSON: {error}; a dump is an array of rows, or a row a line, or CSV")
    })?;
    // An array of rows, or lines of rows.
    Ok(documents
        .into_iter()
        .flat_map(|document| match document {
            Tree::List(rows) => rows,
            Tree::Null => Vec::new(),
            row => vec![row],
        })
        .collect())
}

fn lower(row: Tree) -> Tree {
    match row {
        Tree::Map(map) => Tree::Map(
            map.into_iter().map(|(key, value)| (setting_key::normalise(&key).into_owned(), value)).collect(),
        ),
        other => other,
    }
}

/// Tells the columns that hold something which is not taken: those that a format does not know, each with the number of its
/// rows, and those beside another that says the same. The columns that are known come in groups, of which the first that has
/// a value is taken.
pub fn leave_out_rest(made: &mut Gathered, rows: &[&Row], known: &[&[&str]]) {
    let mut unknown: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let mut seen: Vec<&str> = Vec::new();
        for (column, _) in row.columns.0.iter().flat_map(Tree::entries).filter(|(_, value)| holds(value)) {
            let column = column.as_str();
            let from = format!("{}, {}", row.place, column.escape_debug());
            match known.iter().find(|group| group.contains(&column)) {
                _ if seen.contains(&column) => {
                    made.left_out(from, "stands there once more in another spelling, and the first is taken");
                }
                None if !BOOKKEEPING.contains(&column) => *unknown.entry(column).or_default() += 1,
                None => {}
                Some(group) => {
                    let taken = group.iter().find(|name| row.get(&[**name]).is_some_and(holds));
                    if let Some(taken) = taken.filter(|taken| **taken != column) {
                        made.left_out(from, format!("`{taken}` stands there too, and is taken"));
                    }
                }
            }
            seen.push(column);
        }
    }
    for (column, count) in unknown {
        let from = format!("column {}", column.escape_debug());
        made.left_out(from, format!("has no place here; {count} rows have it"));
    }
}

fn holds(value: &Tree) -> bool {
    *value != Tree::Null && value.text() != Some("")
}

/// What is said of a dump whose cells are not separated by commas.
const OTHER_SEPARATORS: [(char, &str); 2] = [
    (';', "separates its cells by `;`; dump it with commas, as `COPY ... WITH (FORMAT csv, HEADER)` does"),
    ('\t', "separates its cells by tabs; dump it with commas, as `COPY ... WITH (FORMAT csv, HEADER)` does"),
];

type LineError = (usize, &'static str);

fn csv(text: &str) -> Result<Vec<Tree>, LineError> {
    let first = text.lines().next().unwrap_or_default();
    let separated = |sign: char| first.contains(sign) && !first.contains(',');
    for (sign, what) in OTHER_SEPARATORS {
        if separated(sign) {
            return Err((1, what));
        }
    }
    let mut records = records(text)?.into_iter();
    let Some((line, header)) = records.next() else { return Ok(Vec::new()) };
    let header: Vec<String> =
        header.into_iter().map(|cell| cell.unwrap_or_default().trim().to_owned()).collect();
    let named = |name: &String| !name.is_empty() && header.iter().filter(|other| *other == name).count() == 1;
    if !header.iter().all(named) {
        return Err((line, "is no header; the first line of a CSV dump names the columns, each once"));
    }
    records
        .map(|(line, cells)| {
            if cells.len() != header.len() {
                return Err((line, "has another number of cells than the header has columns"));
            }
            let value = |cell: Option<String>| cell.map_or(Tree::Null, Tree::Text);
            Ok(Tree::Map(header.iter().cloned().zip(cells.into_iter().map(value)).collect()))
        })
        .collect()
}

type Record = (usize, Vec<Option<String>>);

/// Cuts a text into records (RFC 4180), each with the line where it begins. A cell without quotes is NULL if it is empty or says so.
fn records(text: &str) -> Result<Vec<Record>, LineError> {
    let (mut all, mut cells) = (Vec::new(), Vec::new());
    let (mut line, mut begun) = (1, 1);
    let mut letters = text.chars().peekable();
    while letters.peek().is_some() {
        let (mut cell, quoted) = (String::new(), letters.next_if_eq(&'"').is_some());
        if quoted {
            loop {
                match letters.next() {
                    None => return Err((begun, "has a quote that is never closed")),
                    Some('"') if letters.next_if_eq(&'"').is_none() => break,
                    Some(letter) => {
                        line += usize::from(letter == '\n');
                        cell.push(letter);
                    }
                }
            }
        }
        while let Some(letter) = letters.next_if(|letter| !matches!(letter, ',' | '\n' | '\r')) {
            if quoted || letter == '"' {
                return Err((line, "has a quote within a cell; double it, and put the cell in quotes"));
            }
            cell.push(letter);
        }
        cells.push((quoted || !matches!(cell.as_str(), "" | "NULL")).then_some(cell));
        if letters.next_if_eq(&',').is_some() {
            // A comma at the very end stands before one more cell.
            if letters.peek().is_none() {
                cells.push(None);
            } else {
                continue;
            }
        }
        letters.next_if_eq(&'\r');
        letters.next_if_eq(&'\n');
        line += 1;
        let empty = matches!(cells.as_slice(), [None]);
        if !empty {
            all.push((begun, std::mem::take(&mut cells)));
        }
        cells.clear();
        begun = line;
    }
    if !cells.is_empty() {
        all.push((begun, cells));
    }
    Ok(all)
}

impl Row {
    /// Whether the table has this column.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.0.iter().any(|row| row.entries().iter().any(|(name, _)| name == column))
    }

    /// The value of the first of these columns that has one.
    #[must_use]
    pub fn get(&self, columns: &[&str]) -> Option<&Tree> {
        columns.iter().find_map(|column| self.columns.0.first()?.get(column))
    }

    /// The same as text, where it is text or a number and not empty.
    #[must_use]
    pub fn text(&self, columns: &[&str]) -> Option<&str> {
        self.get(columns).and_then(Tree::text).filter(|text| !text.trim().is_empty())
    }

    /// The same as a flag.
    #[must_use]
    pub fn flag(&self, columns: &[&str]) -> Option<bool> {
        self.get(columns).and_then(Tree::flag)
    }

    /// A JSON column: nested, or as text.
    ///
    /// # Errors
    /// Says that the text is no JSON.
    pub fn json(&self, column: &str) -> Result<Option<Tree>, String> {
        match self.get(&[column]) {
            Some(Tree::Text(text)) if text.trim().is_empty() => Ok(None),
            Some(Tree::Text(text)) => match tree::parse(text, true).map(<[Tree; 1]>::try_from) {
                Ok(Ok([Tree::Null])) => Ok(None),
                Ok(Ok([tree])) => Ok(Some(tree)),
                _ => Err(format!("the column `{column}` does not hold a JSON document")),
            },
            other => Ok(other.cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> [File; 1] {
        [File { name: "dump".into(), text: text.into() }]
    }

    fn rows(text: &str) -> Vec<Row> {
        read(&file(text), &mut Gathered::new("test")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_same_rows_in_every_form() {
        for text in [
            r#"[{"id":1,"Name":"a","x":null,"f":true,"j":{"k":1}}]"#,
            "{\"id\":1,\"name\":\"a\",\"x\":null,\"f\":1,\"j\":\"{\\\"k\\\":1}\"}\n",
            "id,name,x,f,j\n1,a,,t,\"{\"\"k\"\":1}\"\n",
            "\u{FEFF}id,name,x,f,j\r\n1,a,,t,\"{\"\"k\"\":1}\"\r\n\r\n",
        ] {
            let rows = rows(text);
            assert_eq!(rows.len(), 1, "{text}");
            let row = &rows[0];
            assert_eq!((row.text(&["id"]), row.text(&["name"])), (Some("1"), Some("a")));
            assert!(row.has("x") && row.get(&["x"]).is_none() && !row.has("y"));
            assert_eq!(row.flag(&["f"]), Some(true));
            assert_eq!(row.json("j").unwrap().unwrap().get("k").and_then(Tree::text), Some("1"));
            assert_eq!(row.place, "dump, row 1");
        }
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let rows = rows("a,b,c\n,\"\",\"x\ny\"\n1,2,\n");
        assert_eq!(rows[0].get(&["a"]), None);
        assert_eq!(rows[0].get(&["b"]), Some(&Tree::Text(String::new())));
        assert_eq!(rows[0].text(&["c"]), Some("x\ny"));
        assert_eq!(rows[1].get(&["c"]), None);
    }

    #[test]
    fn regression_the_word_null_without_quotes_is_null() {
        let rows = rows("a,b,c\nNULL,\"NULL\",NULLABLE\nx,y,NULL\n");
        assert_eq!((rows[0].get(&["a"]), rows[1].get(&["c"])), (None, None));
        assert_eq!((rows[0].text(&["b"]), rows[0].text(&["c"])), (Some("NULL"), Some("NULLABLE")));
    }

    #[test]
    fn regression_what_is_not_separated_by_commas_is_told_so() {
        for (text, sign) in [("a;b\n1;2\n", "`;`"), ("a\tb\n1\t2\n", "tabs"), ("\"a\";\"b\"\n", "`;`")] {
            let Err(problems) = read(&file(text), &mut Gathered::new("test")) else { panic!("{text}") };
            assert!(problems.0[0].what.contains(sign) && problems.0[0].place == "dump, line 1", "{problems}");
        }
        assert_eq!(rows("a,b;c\n1,2\n").len(), 1);
    }

    #[test]
    fn regression_columns_that_are_not_taken_are_told() {
        let rows = rows(
            r#"[{"apiKey": "1", "api_key": "2", "url": "u", "base_url": "b", "x": 1, "y": null, "id": 1}, {"x": 2}]"#,
        );
        let mut made = Gathered::new("test");
        leave_out_rest(&mut made, &rows.iter().collect::<Vec<_>>(), &[&["api_key"], &["base_url", "url"]]);
        let told: Vec<String> = made.finish().items.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "dump, row 1, api_key: not carried over: stands there once more in another spelling, and the first is taken",
                "dump, row 1, url: not carried over: `base_url` stands there too, and is taken",
                "column x: not carried over: has no place here; 2 rows have it",
            ]
        );
        assert_eq!(rows[0].text(&["api_key"]), Some("1"));
    }

    #[test]
    fn problems_have_their_line() {
        for (text, place) in [
            ("a,b\n1\n", "dump, line 2"),
            ("a,b\n1,\"x\n", "dump, line 2"),
            ("a,b\n\"1\"2,3\n", "dump, line 2"),
            ("a,a\n1,2\n", "dump, line 1"),
            ("{", "dump"),
            ("", "dump"),
            ("[]", "dump"),
        ] {
            let Err(problems) = read(&file(text), &mut Gathered::new("test")) else { panic!("{text}") };
            assert_eq!(problems.0[0].place, place, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "([a,\"\n\r]|\\PC){0,40}") {
            let _ = read(&file(&text), &mut Gathered::new("test"));
        }
    }
}
