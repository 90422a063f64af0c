//! The URLs of nodes of both layers.

use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::chain::url::NodeUrl;

/// `[execution]`.
pub(super) fn execution(file: &mut Section, faults: &mut Faults) -> Result<Vec<NodeUrl>, Reported> {
    urls(file, "execution", |_| None, faults)
}

/// `[beacon]`.
pub(super) fn beacon(file: &mut Section, faults: &mut Faults) -> Result<Vec<NodeUrl>, Reported> {
    let doubled = |url: &NodeUrl| url.ends_with("eth/v1").then_some(FieldError::BeaconPath);
    urls(file, "beacon", doubled, faults)
}

/// The URLs in a section. There must be one, and none twice: it would have two votes.
fn urls(
    file: &mut Section,
    section: &str,
    objection: impl Fn(&NodeUrl) -> Option<FieldError>,
    faults: &mut Faults,
) -> Result<Vec<NodeUrl>, Reported> {
    let mut section = file.section(section, faults)?;
    let name = section.name("urls");
    let listed = section.required::<Vec<String>>("urls", faults);
    section.end(faults);
    let listed = listed?;
    if listed.is_empty() {
        return Err(faults.report(&name, FieldError::NoNodes));
    }
    let mut urls: Vec<NodeUrl> = Vec::with_capacity(listed.len());
    let mut refused = None;
    for (position, text) in listed.iter().enumerate() {
        let name = format!("{name}[{position}]");
        let url = match NodeUrl::parse(text) {
            Ok(url) if urls.contains(&url) => Err(FieldError::Twice(url.to_string())),
            Ok(url) => objection(&url).map_or(Ok(url), Err),
            Err(error) => Err(error.into()),
        };
        match faults.check(&name, url) {
            Ok(url) => urls.push(url),
            Err(reported) => refused = Some(reported),
        }
    }
    refused.map_or(Ok(urls), Err)
}
