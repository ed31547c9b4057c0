//! Where values come from: command line over environment over file, each named in the error that it causes.

use super::value::{Raw, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One row of a table of settings.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) fallback: Fallback,
    /// Other environment variables that mean the same, by name.
    pub(crate) also: &'static [&'static str],
    pub(crate) help: &'static str,
}

pub(crate) enum Fallback {
    Is(&'static str),
    /// It follows from something else; the text tells from what.
    Derived(&'static str),
    Required,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not TOML: {problem}", path.display())]
    Syntax { path: PathBuf, problem: String },
    #[error("{origin}: there is no setting `{key}`{}", nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default())]
    Unknown { key: String, origin: String, nearest: Option<&'static str> },
    #[error("`{key}` ({origin}): {problem}")]
    Value { key: String, origin: String, problem: String },
    #[error("{0}")]
    Together(String),
}

/// One source of values.
pub(crate) struct Layer {
    /// For errors: `the command line`, a variable's name, a file's path.
    origins: BTreeMap<&'static str, String>,
    values: BTreeMap<&'static str, Raw>,
}

impl Layer {
    /// Refuses a key that the table does not know.
    pub(crate) fn new(
        table: &'static [Setting],
        origin: &str,
        values: impl IntoIterator<Item = (String, Raw)>,
    ) -> Result<Self, ConfigError> {
        let mut layer = Self { origins: BTreeMap::new(), values: BTreeMap::new() };
        for (key, value) in values {
            let Some(setting) = table.iter().find(|setting| setting.name == key) else {
                let nearest = nearest(&key, table.iter().map(|setting| setting.name));
                return Err(ConfigError::Unknown { key, origin: origin.to_owned(), nearest });
            };
            layer.origins.insert(setting.name, origin.to_owned());
            layer.values.insert(setting.name, value);
        }
        Ok(layer)
    }

    /// `<prefix><NAME>`, then the other names. An empty variable counts as none.
    pub(crate) fn environment(table: &'static [Setting], prefix: &str, variables: &BTreeMap<String, String>) -> Self {
        let mut layer = Self { origins: BTreeMap::new(), values: BTreeMap::new() };
        for setting in table {
            let own = variable(prefix, setting.name);
            let names = std::iter::once(own.as_str()).chain(setting.also.iter().copied());
            let found = names.filter_map(|name| Some((name, variables.get(name).filter(|value| !value.trim().is_empty())?))).next();
            if let Some((name, value)) = found {
                layer.origins.insert(setting.name, name.to_owned());
                layer.values.insert(setting.name, Raw::Text(value.clone()));
            }
        }
        layer
    }
}

pub(crate) fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.to_uppercase().replace('-', "_"))
}

/// The first layer that has a value wins.
pub(crate) fn read<T: Value>(layers: &[Layer], table: &'static [Setting], name: &'static str) -> Result<T, ConfigError> {
    for layer in layers {
        if let Some(raw) = layer.values.get(name) {
            let origin = layer.origins.get(name).cloned().unwrap_or_default();
            return T::read(raw).map_err(|problem| ConfigError::Value { key: name.to_owned(), origin, problem });
        }
    }
    let fallback = table.iter().find(|setting| setting.name == name).map(|setting| &setting.fallback);
    let missing = || ConfigError::Value { key: name.to_owned(), origin: "not set".into(), problem: "it has to be set".into() };
    match fallback {
        Some(Fallback::Is(text)) => T::read(&Raw::Text((*text).to_owned())).map_err(|problem| ConfigError::Value {
            key: name.to_owned(),
            origin: "default".into(),
            problem,
        }),
        _ => T::unset().ok_or_else(missing),
    }
}

/// The values of a table of a TOML file. Tables within it are the caller's.
pub(crate) fn from_toml(table: toml::Table, path: &Path) -> Result<Vec<(String, Raw)>, ConfigError> {
    table.into_iter().map(|(key, value)| raw(&key, value, path).map(|raw| (key, raw))).collect()
}

fn raw(key: &str, value: toml::Value, path: &Path) -> Result<Raw, ConfigError> {
    let scalar = |value: toml::Value| match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    let wrong = |problem: &str| ConfigError::Value { key: key.to_owned(), origin: path.display().to_string(), problem: problem.to_owned() };
    match value {
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> = items.into_iter().map(scalar).collect();
            texts.map(Raw::List).ok_or_else(|| wrong("a list of texts or numbers is expected"))
        }
        other => scalar(other).map(Raw::Text).ok_or_else(|| wrong("a text, a number, true or false, or a list is expected")),
    }
}

/// The known name with the fewest edits, where there is one that could be meant.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let key = key.to_lowercase().replace('-', "_");
    let scored = known.map(|name| (distance(&key, &name.to_lowercase()), name));
    scored.min_by_key(|(edits, _)| *edits).filter(|(edits, name)| *edits <= 1 + name.len() / 3).map(|(_, name)| name)
}

/// Levenshtein.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_offered_when_it_could_be_meant() {
        let known = ["base_domain", "api", "https", "http"];
        assert_eq!(nearest("base-domain", known.into_iter()), Some("base_domain"));
        assert_eq!(nearest("basedomain", known.into_iter()), Some("base_domain"));
        assert_eq!(nearest("htps", known.into_iter()), Some("https"));
        assert_eq!(nearest("completely_else", known.into_iter()), None);
    }
}
