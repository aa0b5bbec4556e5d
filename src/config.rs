//! Settings from TOML: a table read into a struct, single keys overridden from the command line, and errors that name the file, the
//! key's whole path and, for a key that does not exist, the nearest that does.
//!
//! Structs carry `#[serde(deny_unknown_fields)]`; nothing else has to know their keys.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Settings and where each came from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, for messages.
    source: String,
    table: Table,
    overridden: Vec<String>,
}

impl Settings {
    /// The settings in `text`, a TOML file that messages call `source`.
    ///
    /// # Errors
    /// Text that is not TOML: line, column and what was expected.
    pub fn parse(source: impl Into<String>, text: &str) -> Result<Self> {
        let source = source.into();
        let table = toml::from_str(text).map_err(|e: toml::de::Error| {
            let at = e.span().map(|s| place(text, s.start)).unwrap_or_default();
            Error::config(format!("{source}{at}"), one_line(e.message()))
        })?;
        Ok(Settings { source, table, overridden: Vec::new() })
    }
    /// Settings already in a table.
    pub fn from_table(source: impl Into<String>, table: Table) -> Self {
        Settings { source: source.into(), table, overridden: Vec::new() }
    }
    /// The value behind a path of keys (`train.batch`).
    pub fn get(&self, path: &str) -> Option<&Value> {
        let (last, tables) = split(path);
        tables.iter().try_fold(&self.table, |t, k| t.get(*k)?.as_table())?.get(last)
    }
    /// Sets `path` unless it is set; a path through something that is no table is left alone.
    pub fn default(&mut self, path: &str, value: impl Into<Value>) {
        if self.get(path).is_none() {
            let _ = self.put(path, value.into());
        }
    }
    /// Sets a key to a string, as [`Settings::set`] does to what is not TOML.
    pub fn put_string(&mut self, path: &str, value: impl Into<String>) {
        self.overridden.push(path.to_string());
        let _ = self.put(path, Value::String(value.into()));
    }
    /// Forgets a key.
    pub fn remove(&mut self, path: &str) {
        let (last, tables) = split(path);
        let table = tables.iter().try_fold(&mut self.table, |t, k| t.get_mut(*k)?.as_table_mut());
        if let Some(t) = table {
            t.remove(last);
        }
    }
    /// Sets a key from the command line: `train.batch=8`. The value is TOML; what is not TOML is taken as a string, so that paths and
    /// words need no quotes.
    ///
    /// # Errors
    /// No `=`, an empty key, or a path through something that is no table. Keys that do not exist are found by [`Settings::read`].
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let (path, text) = assignment
            .split_once('=')
            .map(|(p, t)| (p.trim(), t.trim()))
            .filter(|(p, _)| !p.is_empty() && p.split('.').all(|k| !k.trim().is_empty()))
            .ok_or_else(|| Error::usage(format!("--set {assignment}: expected key=value, for example train.batch=8")))?;
        let value = toml::from_str::<Table>(&format!("v = {text}"))
            .ok()
            .filter(|t| t.len() == 1)
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| Value::String(text.to_string()));
        self.overridden.push(path.to_string());
        self.put(path, value).map_err(|outer| {
            Error::config(format!("--set {path}"), format!("{outer} is a value, not a table, so it has no key below it"))
        })
    }
    /// Takes a key or a whole table out from the command line: as if the file did not have it.
    ///
    /// # Errors
    /// There is no such key; the nearest there is is named.
    pub fn unset(&mut self, path: &str) -> Result<()> {
        if self.get(path).is_some() {
            self.remove(path);
            return Ok(());
        }
        let mut known = Vec::new();
        keys(&self.table, "", &mut known);
        let known = known.iter().map(String::as_str);
        let hint = match nearest(path, known.clone()) {
            Some(n) => format!("did you mean {n}?"),
            None => format!("it has {}", known.collect::<Vec<_>>().join(", ")),
        };
        Err(Error::config(format!("--unset {path}"), format!("{} has no such key; {hint}", self.source)))
    }
    /// What [`Settings::set`] made of a key, in itself or with the table around it.
    pub fn overridden(&self, path: &str) -> Option<&Value> {
        if self.overridden.iter().any(|o| below(path, o)) { self.get(path) } else { None }
    }
    /// Sets `path`; the error is the part of it that is no table.
    fn put(&mut self, path: &str, value: Value) -> Result<(), String> {
        let (last, tables) = split(path);
        let mut table = &mut self.table;
        for (i, key) in tables.iter().enumerate() {
            let next = table.entry(key.to_string()).or_insert_with(|| Value::Table(Table::new()));
            table = next.as_table_mut().ok_or_else(|| tables[..=i].join("."))?;
        }
        table.insert(last.to_string(), value);
        Ok(())
    }
    /// Reads everything into `T`.
    ///
    /// # Errors
    /// An unknown key (the nearest known one is named), a value of another type, a missing key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(Value::Table(self.table.clone())).map_err(|e| {
            let path = e.path().to_string();
            let mut message = one_line(e.inner().message());
            // A misspelt table is not there, which is found first.
            let missing = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`'));
            if let (Some(near), ".") = (missing.and_then(|m| nearest(m, self.table.keys().map(String::as_str))), path.as_str()) {
                message += &format!("; is {near} meant to be it?");
            }
            let (key, message) = explain(if path == "." { "" } else { &path }, &message);
            self.error(&key, message)
        })
    }
    /// An error about the key at `path`: it names the file, or the command line where the key was set there.
    pub fn error(&self, path: &str, message: impl Into<String>) -> Error {
        // Set itself, or something in it, or what it lies in.
        let from_set = !path.is_empty() && self.overridden.iter().any(|o| below(o, path) || below(path, o));
        let place = match (from_set, path.is_empty()) {
            (true, _) => format!("--set {path}"),
            (false, true) => self.source.clone(),
            (false, false) => format!("{}: {path}", self.source),
        };
        Error::config(place, message)
    }
}

/// Whether a path of keys is `outer`, or of something in it.
fn below(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn split(path: &str) -> (&str, Vec<&str>) {
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    (keys.pop().unwrap_or_default(), keys)
}

/// The paths of all keys of a table that lies at `path`.
fn keys(table: &Table, path: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{key}");
        if let Some(table) = value.as_table() {
            keys(table, &path, out);
        }
        out.push(path);
    }
}

/// `:line:column` of a byte.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!(":{line}:{column}")
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Whole path and message for one of serde's errors, with the nearest of the words that were possible.
fn explain(path: &str, message: &str) -> (String, String) {
    // serde says: unknown field `x`, expected one of `a`, `b` - or: expected `a` - or: there are no fields.
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = ["unknown field", "unknown variant"].into_iter().find(|w| message.starts_with(w));
    let (Some(kind), Some(wrong)) = (unknown, words.next()) else {
        return (path.to_string(), mismatch(message).unwrap_or_else(|| message.to_string()));
    };
    let known: Vec<&str> = words.collect();
    let what = if kind == "unknown field" { "there is no such key" } else { "is not one of its values" };
    let list = known.join(", ");
    let hint = match nearest(wrong, known.iter().copied()) {
        Some(n) => format!("did you mean {n}? (known: {list})"),
        None if list.is_empty() => "none is known here".to_string(),
        None => format!("known: {list}"),
    };
    if kind == "unknown variant" {
        return (path.to_string(), format!("{wrong:?} {what}; {hint}"));
    }
    // Within tagged enums serde reports the table, elsewhere the key.
    let inside = path == wrong || path.ends_with(&format!(".{wrong}"));
    let key = match (inside, path.is_empty()) {
        (true, _) => path.to_string(),
        (false, true) => wrong.to_string(),
        (false, false) => format!("{path}.{wrong}"),
    };
    (key, format!("{what}; {hint}"))
}

/// What serde says of a value of another type, without Rust's names for types.
fn mismatch(message: &str) -> Option<String> {
    let wanted = |text: &str| match text {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on".to_string(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_string(),
        "f32" | "f64" => "a number".to_string(),
        "a boolean" => "true or false".to_string(),
        "a sequence" => "a list".to_string(),
        "a map" => "a table".to_string(),
        t if t.starts_with("struct ") => "a table".to_string(),
        t => t.strip_prefix("an array of length ").map_or_else(|| t.to_string(), |n| format!("a list of {n} values")),
    };
    if let Some((n, want)) = message.strip_prefix("invalid length ").and_then(|m| m.split_once(", expected ")) {
        return Some(format!("expected {}, got {n}", wanted(want)));
    }
    let kind = ["invalid type: ", "invalid value: "].into_iter().find_map(|k| message.strip_prefix(k))?;
    let (given, want) = kind.rsplit_once(", expected ")?;
    if want == "string only" {
        // Of an enum; what was given is not said.
        return Some("expected a word".to_string());
    }
    let given = match given.split_once(' ') {
        // TOML has no such number, so that it was taken for a word.
        Some(("string", text)) if wanted(want).starts_with("a whole number") && is_too_large(text.trim_matches('"')) => {
            return Some(format!("{} is too large", text.trim_matches('"')));
        }
        Some(("string", text)) => text,
        _ if given == "map" => "a table",
        _ if given == "sequence" => "a list",
        // integer `3`, floating point `0.5`, boolean `true`
        _ => given.split('`').nth(1).unwrap_or(given),
    };
    Some(format!("{given} is not {}", wanted(want)))
}

/// Whether these are the digits of a whole number that TOML has no room for.
fn is_too_large(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.len() > 18 && text.parse::<i64>().is_err()
}

/// The word of `known` that a person who wrote `wrong` may have meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|k| (strsim::normalized_damerau_levenshtein(wrong, k), k));
    near.filter(|(s, _)| *s >= 0.45).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Fast,
        Slow,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Train {
        batch: usize,
        lr: f32,
        kind: Option<Kind>,
        pair: Option<[f32; 2]>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(tag = "source", deny_unknown_fields, rename_all = "lowercase")]
    enum Data {
        Folder { dir: String },
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct All {
        train: Train,
        data: Option<Data>,
    }

    fn read(text: &str, sets: &[&str]) -> Result<All> {
        let mut s = Settings::parse("a.toml", text)?;
        for x in sets {
            s.set(x)?;
        }
        s.read()
    }
    fn complaint(text: &str, sets: &[&str]) -> String {
        read(text, sets).unwrap_err().to_string()
    }

    #[test]
    fn values_are_read_and_overridden() {
        let text = "[train]\nbatch = 4\nlr = 0.1\n[data]\nsource = 'folder'\ndir = '/a'";
        let a = read(text, &["train.batch=8", "train.kind = slow", "data.dir=/x=y"]).unwrap();
        assert_eq!((a.train.batch, a.train.lr), (8, 0.1));
        assert!(matches!(a.train.kind, Some(Kind::Slow)));
        let Some(Data::Folder { dir }) = a.data else { panic!() };
        assert_eq!(dir, "/x=y");
        assert!(read("[train]", &["train.lr=1"]).is_ok());
        let mut s = Settings::parse("a.toml", text).unwrap();
        s.default("train.batch", 99i64);
        s.default("train.kind", "fast");
        assert_eq!((s.get("train.batch"), s.get("train.kind")), (Some(&Value::Integer(4)), Some(&Value::String("fast".into()))));
    }

    #[test]
    fn keys_and_tables_are_taken_out() {
        let text = "[train]\nbatch = 4\nlr = 0.1\n[data]\nsource = 'folder'\ndir = '/a'";
        let mut s = Settings::parse("a.toml", text).unwrap();
        s.unset("data").unwrap();
        s.unset("train.batch").unwrap();
        let a: All = s.read().unwrap();
        assert!((a.train.batch, a.train.lr) == (0, 0.1) && a.data.is_none());
        let mut said = |path: &str| s.unset(path).unwrap_err().to_string();
        assert_eq!(said("train.batch"), "--unset train.batch: a.toml has no such key; did you mean train.lr?");
        assert_eq!(said("train.rl"), "--unset train.rl: a.toml has no such key; did you mean train.lr?");
        assert_eq!(said("train.lr=none"), "--unset train.lr=none: a.toml has no such key; did you mean train.lr?");
        for wrong in ["", "q", "."] {
            assert_eq!(said(wrong), format!("--unset {wrong}: a.toml has no such key; it has train.lr, train"));
        }
        assert_eq!(s.overridden("train.lr"), None);
        s.set("train={lr=1}").unwrap();
        assert_eq!((s.overridden("train.lr"), s.overridden("train.l")), (Some(&Value::Integer(1)), None));
    }

    #[test]
    fn complaints_name_place_key_and_neighbour() {
        let known = "(known: batch, lr, kind, pair)";
        assert_eq!(
            complaint("[train]\nbach = 4", &[]),
            format!("a.toml: train.bach: there is no such key; did you mean batch? {known}")
        );
        assert_eq!(
            complaint("[train]", &["train.btach=4"]),
            format!("--set train.btach: there is no such key; did you mean batch? {known}")
        );
        assert_eq!(complaint("[trian]\n", &[]), "a.toml: trian: there is no such key; did you mean train? (known: train, data)");
        assert_eq!(complaint("", &[]), "a.toml: missing field `train`");
        for (value, what) in [
            ("'x, expected y'", "\"x, expected y\" is not a whole number from 0 on"),
            ("-1", "-1 is not a whole number from 0 on"),
            ("1.5", "1.5 is not a whole number from 0 on"),
            ("true", "true is not a whole number from 0 on"),
            ("[1]", "a list is not a whole number from 0 on"),
            ("{ x = 1 }", "a table is not a whole number from 0 on"),
        ] {
            assert_eq!(complaint(&format!("[train]\nbatch = {value}"), &[]), format!("a.toml: train.batch: {what}"));
            assert_eq!(complaint("[train]", &[&format!("train.batch={value}")]), format!("--set train.batch: {what}"));
        }
        let large = "99999999999999999999";
        assert_eq!(complaint("[train]", &[&format!("train.batch={large}")]), format!("--set train.batch: {large} is too large"));
        for word in ["'8'", "007"] {
            let said = complaint("[train]", &[&format!("train.batch={word}")]);
            assert_eq!(said, format!("--set train.batch: \"{}\" is not a whole number from 0 on", word.trim_matches('\'')));
        }
        assert_eq!(complaint("train = 3", &[]), "a.toml: train: 3 is not a table");
        assert_eq!(complaint("[train]\nlr = 'x'", &[]), "a.toml: train.lr: \"x\" is not a number");
        assert_eq!(complaint("[train]\nkind = 3", &[]), "a.toml: train.kind: expected a word");
        assert_eq!(complaint("[train]", &["train.pair=[1]"]), "--set train.pair: expected a list of 2 values, got 1");
        assert_eq!(complaint("[train]", &["train.pair=[1, 'x']"]), "--set train.pair[1]: \"x\" is not a number");
        assert_eq!(
            complaint("[train]", &["train.kind=fat"]),
            "--set train.kind: \"fat\" is not one of its values; did you mean fast? (known: fast, slow)"
        );
        assert_eq!(
            complaint("[train]\n[data]\nsource = 'folder'\ndri = 'x'", &[]),
            "a.toml: data.dri: there is no such key; did you mean dir? (known: dir)"
        );
        assert_eq!(
            complaint("[train]\nbatch = 4", &["train.batch.x=1"]),
            "--set train.batch.x: train.batch is a value, not a table, so it has no key below it"
        );
        let e = complaint("[train]\nbatch = = 4", &[]);
        assert!(e.starts_with("a.toml:2:9: "), "{e}");
        for wrong in ["train.batch", "=4", "train.=4", ""] {
            assert_eq!(read("[train]", &[wrong]).unwrap_err().exit_status(), 2, "{wrong}");
        }
    }
}
