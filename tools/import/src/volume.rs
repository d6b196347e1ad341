//! Single volumes: identities and names, from `multipaths` and from a bindings file.

use std::collections::{BTreeMap, BTreeSet};

use crate::Mode;
use crate::document::{Document, Section};
use crate::finding::Findings;
use crate::hardware::Device;
use crate::resolve::{Class, View};
use crate::rule::Rule;

/// A volume named by the file or the bindings.
#[derive(Debug)]
pub(crate) struct Volume<'a> {
    /// Identity as umpath prints it.
    pub(crate) id: String,
    /// Name, and the line of the file that sets it; without a line, it is from the bindings.
    pub(crate) alias: Option<(String, Option<u32>)>,
    /// Its `multipath` section.
    pub(crate) section: Option<&'a Section>,
}

/// A line of a bindings file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    alias: String,
    wwid: String,
    line: u32,
}

/// All volumes, those with sections first.
pub(crate) fn volumes<'a>(
    document: &'a Document,
    devices: &'a [Device],
    bindings: Option<&[u8]>,
    mode: Mode,
    findings: &mut Findings,
) -> Vec<Volume<'a>> {
    let mut volumes: Vec<Volume<'a>> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for section in &document.multipaths {
        let Some(wwid) = section.settings.get("wwid") else {
            continue;
        };
        let Some(id) = identity(&wwid.value.text) else {
            let cause = no_identity(&wwid.value.text);
            findings.add(Rule::WwidNotNvme, wwid.line, cause, String::new());
            continue;
        };
        if at.contains_key(&id) {
            let cause = format!("{id} is defined again with different capitalization");
            findings.add(
                Rule::DuplicateMultipath,
                section.line,
                cause,
                "keep one section",
            );
            continue;
        }
        let alias = section.settings.get("alias").and_then(|setting| {
            let name = setting.value.text.clone();
            accept(&name, Some(setting.line), &mut names, findings)
                .then_some((name, Some(setting.line)))
        });
        at.insert(id.clone(), volumes.len());
        volumes.push(Volume {
            id,
            alias,
            section: Some(section),
        });
    }
    for binding in bindings
        .map(|text| read_bindings(text, findings))
        .unwrap_or_default()
    {
        let Some(id) = identity(&binding.wwid) else {
            let cause = format!(
                "bindings line {}: {}",
                binding.line,
                no_identity(&binding.wwid)
            );
            findings.add(Rule::WwidNotNvme, None, cause, String::new());
            continue;
        };
        let known = at.get(&id).and_then(|index| volumes.get_mut(*index));
        let section = known.as_ref().and_then(|volume| volume.section);
        if known.as_ref().is_some_and(|volume| volume.alias.is_some())
            || !uses_bindings(document, devices, section, mode)
            || !accept(&binding.alias, None, &mut names, findings)
        {
            continue;
        }
        let alias = Some((binding.alias, None));
        if let Some(volume) = known {
            volume.alias = alias;
            continue;
        }
        at.insert(id.clone(), volumes.len());
        volumes.push(Volume {
            id,
            alias,
            section: None,
        });
    }
    volumes
}

/// multipathd uses the bindings only with user_friendly_names; a user who passes the file wants
/// them.
fn uses_bindings(
    document: &Document,
    devices: &[Device],
    section: Option<&Section>,
    mode: Mode,
) -> bool {
    let class = section.map_or(Class::Any, Class::Volume);
    let view = View::new(document, devices, class, mode);
    mode == Mode::Intended || view.text("user_friendly_names") == Some("yes")
}

/// The identity in umpath's spelling; `None` if no namespace that umpath accepts has it.
fn identity(wwid: &str) -> Option<String> {
    let wwid = wwid.trim().to_ascii_lowercase();
    let (kind, digits) = wwid.split_once('.')?;
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = match kind {
        "eui" => matches!(digits.len(), 16 | 32) && hex(digits),
        "uuid" => {
            let lengths: Vec<usize> = digits.split('-').map(str::len).collect();
            lengths == [8, 4, 4, 4, 12] && hex(&digits.replace('-', ""))
        }
        _ => false,
    };
    known.then_some(wwid)
}

fn no_identity(wwid: &str) -> String {
    if wwid.starts_with("nvme.") {
        format!(
            "{wwid:?} is made of serial and model: umpath accepts only namespaces with a UUID, NGUID or \
             EUI-64"
        )
    } else {
        format!("{wwid:?} is not an identity of an NVMe namespace (eui. or uuid.)")
    }
}

/// Checks that a name is valid and not in use.
fn accept(
    name: &str,
    line: Option<u32>,
    names: &mut BTreeSet<String>,
    findings: &mut Findings,
) -> bool {
    const NAME_MAX: usize = 127;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let proper =
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
    if !proper {
        findings.add(
            Rule::AliasRefused,
            line,
            format!("the name {name:?} may contain only letters, digits, '.', '_' and '-'"),
            "choose another one; until then the volume is named vol1, vol2, ...",
        );
        return false;
    }
    let new = names.insert(name.to_owned());
    if !new {
        let cause = format!("the name {name:?} is given to another volume already");
        findings.add(Rule::DuplicateAlias, line, cause, "choose another one");
    }
    new
}

fn read_bindings(text: &[u8], findings: &mut Findings) -> Vec<Binding> {
    let mut bindings = Vec::new();
    let text = String::from_utf8_lossy(text);
    for (number, line) in (1_u32..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [alias, wwid, ..] => bindings.push(Binding {
                alias: (*alias).to_owned(),
                wwid: (*wwid).to_owned(),
                line: number,
            }),
            [_] => findings.add(
                Rule::BadBinding,
                None,
                format!("bindings line {number} has only one word: {line:?}"),
                "a line is a name and an identity",
            ),
        }
    }
    bindings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_those_of_namespaces() {
        let known = |wwid: &str| identity(wwid).is_some();
        assert!(known("eui.0025385b71b00a01"));
        assert!(known("EUI.00000000000000010025385B71B00A01"));
        assert!(known("uuid.8a1b2c3d-0000-4000-8000-0123456789ab"));
        assert!(!known("uuid.8a1b2c3d00004000800000123456789ab"));
        assert!(!known("eui.36323862313537662d616161372d343"));
        assert!(!known("3600508b4000156d700012000000b0000"));
        assert!(!known("nvme.1d0f-766f6c-416d617a6f6e-00000001"));
        assert!(!known(""));
    }

    #[test]
    fn bindings_are_names_and_identities() {
        let mut findings = Findings::default();
        let text =
            b"# Multipath bindings, Version : 1.0\nmpatha eui.1\n\nmpathb\nmpathc uuid.2 x\n";
        let bindings = read_bindings(text, &mut findings);
        assert_eq!(bindings.len(), 2);
        assert_eq!(
            (bindings[1].alias.as_str(), bindings[1].line),
            ("mpathc", 5)
        );
        assert_eq!(findings.sorted().len(), 1);
    }
}
