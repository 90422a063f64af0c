//! A table of the file, field by field, so that one that is wrong keeps nobody from looking at the next.

use super::ConfigError;
use super::fault::{Faults, FieldError, Reported};
use postern_shared::toml_fault::{describe, describe_in, line_and_column};
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of the file, and the folder that paths in it are relative to.
#[derive(Clone, Copy)]
struct Source<'t> {
    text: &'t str,
    folder: &'t Path,
}

/// A table, of which each field is taken once. What is left when it ends is unknown.
pub(super) struct Section<'t> {
    source: Source<'t>,
    /// Its own name and a point; empty for the whole file.
    prefix: String,
    fields: BTreeMap<String, Spanned<DeValue<'t>>>,
}

impl<'t> Section<'t> {
    /// The whole file, which must be TOML. What is wrong with it is said without a word of it: it may hold passwords.
    pub(super) fn whole(path: &'t Path, text: &'t str) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        match DeTable::parse(text) {
            Ok(table) => Ok(Self::of(Source { text, folder }, String::new(), table.into_inner())),
            Err(error) => {
                let reason = describe_in(text, &error);
                Err(ConfigError::Text { path: path.to_owned(), reason })
            }
        }
    }

    fn of(source: Source<'t>, prefix: String, table: DeTable<'t>) -> Self {
        let fields = table.into_iter().map(|(key, value)| (key.into_inner().into_owned(), value));
        Self { source, prefix, fields: fields.collect() }
    }

    /// Where paths in the file begin.
    pub(super) fn folder(&self) -> &'t Path {
        self.source.folder
    }

    /// What a field is called in the file. One whose key nobody would give to a field may be something secret in the wrong place.
    pub(super) fn name(&self, key: &str) -> String {
        let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        format!("{}{}", self.prefix, if is_plain { key } else { "…" })
    }

    /// A field that may be left out.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &str,
        faults: &mut Faults,
    ) -> Result<Option<T>, Reported> {
        let Some(value) = self.fields.remove(key) else { return Ok(None) };
        let start = value.span().start;
        match T::deserialize(value.into_deserializer()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                // Of what a type refuses by itself the parser knows no place.
                let offset = error.span().map_or(start, |span| span.start);
                let (line, column) = line_and_column(self.source.text, offset);
                let reason = describe(&error);
                Err(faults.report(&self.name(key), FieldError::Type { line, column, reason }))
            }
        }
    }

    /// A field that must be there.
    pub(super) fn required<T: DeserializeOwned>(
        &mut self,
        key: &str,
        faults: &mut Faults,
    ) -> Result<T, Reported> {
        self.optional(key, faults)?.ok_or_else(|| faults.report(&self.name(key), FieldError::Missing))
    }

    /// The path of a file or a folder, which may be left out.
    pub(super) fn optional_path(
        &mut self,
        key: &str,
        faults: &mut Faults,
    ) -> Result<Option<PathBuf>, Reported> {
        match self.optional::<String>(key, faults)? {
            Some(url) if url.contains("://") => Err(faults.report(&self.name(key), FieldError::NoPath)),
            path => Ok(path.map(|path| self.source.folder.join(path))),
        }
    }

    /// The path of a file or a folder.
    pub(super) fn path(&mut self, key: &str, faults: &mut Faults) -> Result<PathBuf, Reported> {
        self.optional_path(key, faults)?.ok_or_else(|| faults.report(&self.name(key), FieldError::Missing))
    }

    /// A table in this one, which may be left out.
    pub(super) fn optional_section(
        &mut self,
        key: &str,
        faults: &mut Faults,
    ) -> Result<Option<Section<'t>>, Reported> {
        let Some(value) = self.fields.remove(key) else { return Ok(None) };
        let (name, span) = (self.name(key), value.span());
        match value.into_inner() {
            DeValue::Table(table) => Ok(Some(Self::of(self.source, format!("{name}."), table))),
            _ => {
                let (line, column) = line_and_column(self.source.text, span.start);
                let reason = "not a table".to_owned();
                Err(faults.report(&name, FieldError::Type { line, column, reason }))
            }
        }
    }

    /// A table in this one; one that is left out has no fields.
    pub(super) fn section(&mut self, key: &str, faults: &mut Faults) -> Result<Section<'t>, Reported> {
        let empty = Self { source: self.source, prefix: format!("{key}."), fields: BTreeMap::new() };
        Ok(self.optional_section(key, faults)?.unwrap_or(empty))
    }

    /// A table in this one, which must be there.
    pub(super) fn required_section(
        &mut self,
        key: &str,
        faults: &mut Faults,
    ) -> Result<Section<'t>, Reported> {
        let section = self.optional_section(key, faults)?;
        section.ok_or_else(|| faults.report(&self.name(key), FieldError::Missing))
    }

    /// The keys of all fields that were not taken.
    pub(super) fn keys(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// All fields that are wanted were taken: the rest is unknown.
    pub(super) fn end(&mut self, faults: &mut Faults) {
        for key in self.keys() {
            faults.report(&self.name(&key), FieldError::Unknown);
        }
        self.fields.clear();
    }
}
