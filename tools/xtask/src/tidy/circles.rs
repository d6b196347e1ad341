//! Circles of modules within a crate.
//!
//! Among the children of one module, uses lead one way: what two siblings need of each other belongs
//! below both. A child may use its ancestors and they their children, as methods of one type that
//! are spread over files do. Only `use` lines count: they are what a reader sees first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::Source;
use super::orphans::modules;
use super::{Finding, Package};

/// Circles still there, by how their findings begin. The parts of the simulator are methods of its
/// world and name each other's states.
const KNOWN: &[&str] = &[
    "umpath-rdma::verbs: cm, linger",
    "umpath-tests: cases, drill",
    "umpath-tests::sim: ",
];

/// A module's path within its crate.
type Module = Vec<String>;

pub(super) fn check(packages: &[Package], tree: &[Source]) -> Vec<Finding> {
    let texts: BTreeMap<&Path, &str> = tree
        .iter()
        .map(|source| (source.path.as_path(), source.text.as_str()))
        .collect();
    let roots = packages
        .iter()
        .flat_map(|package| package.targets.iter().map(move |target| (package, target)));
    let mut findings = Vec::new();
    for (package, target) in roots {
        let krate = Crate::read(&target.src_path, &texts);
        for (parent, circle) in krate.circles() {
            let name = [vec![package.name.clone()], parent].concat().join("::");
            let words = format!("{name}: {}", Vec::from_iter(circle).join(", "));
            if !KNOWN.iter().any(|known| words.starts_with(known)) {
                findings.push(Finding {
                    file: target.src_path.clone(),
                    words: format!("a circle of modules, {words} (tidy/circles.rs)"),
                });
            }
        }
    }
    findings
}

/// The modules of a crate and what their `use` lines name.
#[derive(Default)]
struct Crate {
    uses: BTreeMap<Module, Vec<Module>>,
    /// What `pub use` lines make of a name in a module.
    exports: BTreeMap<Module, Module>,
}

impl Crate {
    fn read(root: &Path, texts: &BTreeMap<&Path, &str>) -> Self {
        let mut krate = Self::default();
        let mut pending: Vec<(Module, PathBuf)> = vec![(Vec::new(), root.to_path_buf())];
        while let Some((module, path)) = pending.pop() {
            let Some(text) = texts.get(path.as_path()) else {
                continue;
            };
            let code = without_tests(text);
            for file in modules(&path, &code, path == root) {
                pending.push((child(&module, &file), file));
            }
            krate.read_uses(&module, &code);
        }
        krate
    }

    fn read_uses(&mut self, module: &Module, code: &str) {
        let mut used = Vec::new();
        for statement in code.split(';') {
            let Some((head, names)) = statement.rsplit_once("use ") else {
                continue;
            };
            let visibility = head.lines().next_back().unwrap_or_default().trim();
            if !(visibility.is_empty() || visibility.starts_with("pub")) {
                continue;
            }
            for name in expanded(names) {
                let (path, alias) = name.split_once(" as ").unwrap_or((&name, ""));
                let path: Vec<&str> = path.split("::").map(str::trim).collect();
                let Some(path) = absolute(module, &path) else {
                    continue;
                };
                if visibility.starts_with("pub") {
                    let alias = Some(alias.trim().to_owned()).filter(|alias| !alias.is_empty());
                    let exported = alias.or(path.last().cloned()).unwrap_or_default();
                    let exported = [module.clone(), vec![exported]].concat();
                    self.exports.insert(exported, path.clone());
                }
                used.push(path);
            }
        }
        self.uses.insert(module.clone(), used);
    }

    /// The module that defines what a path names.
    fn home(&self, path: &[String], left: usize) -> Module {
        let known = |end: &usize| self.uses.contains_key(&path[..*end]);
        let end = (0..=path.len()).rev().find(known).unwrap_or(0);
        let exported = path.get(..=end).and_then(|name| self.exports.get(name));
        match (exported, left.checked_sub(1)) {
            (Some(origin), Some(left)) => {
                self.home(&[origin.clone(), path[end + 1..].to_vec()].concat(), left)
            }
            _ => path[..end].to_vec(),
        }
    }

    /// Circles among siblings, with the path of their parent.
    fn circles(&self) -> Vec<(Module, BTreeSet<String>)> {
        let mut edges: BTreeMap<(Module, String), BTreeSet<String>> = BTreeMap::new();
        for (module, used) in &self.uses {
            for path in used {
                let home = self.home(path, 8);
                let common = module.iter().zip(&home).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(common), home.get(common)) {
                    let from = (module[..common].to_vec(), from.clone());
                    edges.entry(from).or_default().insert(to.clone());
                }
            }
        }
        let mut circles = BTreeSet::new();
        for (parent, from) in edges.keys() {
            let circle = reachable(&edges, parent, from)
                .into_iter()
                .filter(|to| reachable(&edges, parent, to).contains(from))
                .collect::<BTreeSet<_>>();
            if circle.contains(from) {
                circles.insert((parent.clone(), circle));
            }
        }
        circles.into_iter().collect()
    }
}

fn reachable(
    edges: &BTreeMap<(Module, String), BTreeSet<String>>,
    parent: &Module,
    from: &str,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![from.to_owned()];
    while let Some(at) = pending.pop() {
        for to in edges.get(&(parent.clone(), at)).into_iter().flatten() {
            if found.insert(to.clone()) {
                pending.push(to.clone());
            }
        }
    }
    found
}

/// The module of a file that `parent` declares.
fn child(parent: &Module, file: &Path) -> Module {
    let named = if file.ends_with("mod.rs") {
        file.parent().unwrap_or(file)
    } else {
        file
    };
    let name = named.file_stem().unwrap_or_default().to_string_lossy();
    [parent.clone(), vec![name.into_owned()]].concat()
}

/// The code in front of unit tests, without comments.
fn without_tests(text: &str) -> String {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| *line != "mod tests {")
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    code.join("\n")
        .replace("#[cfg(test)]\nmod", "#[cfg(test)]\n// mod")
}

/// The paths of a `use` statement, its braces written out.
fn expanded(names: &str) -> Vec<String> {
    let Some((prefix, inside)) = names.trim().split_once('{') else {
        return vec![names.trim().to_owned()];
    };
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .flat_map(|part| expanded(&format!("{prefix}{}", part.trim_start_matches("self"))))
        .collect()
}

/// A path from the crate's root; `None` if it leads to another crate.
fn absolute(module: &Module, path: &[&str]) -> Option<Module> {
    let supers = path.iter().take_while(|name| **name == "super").count();
    let (base, rest) = match *path.first()? {
        "crate" => (&[][..], &path[1..]),
        "self" => (&module[..], &path[1..]),
        "super" => (
            &module[..module.len().checked_sub(supers)?],
            &path[supers..],
        ),
        _ => (&module[..], path),
    };
    let rest = rest.iter().map(|name| (*name).to_owned());
    Some(base.iter().cloned().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let tree: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source {
                path: path.into(),
                text: (*text).to_owned(),
            })
            .collect();
        let package = Package {
            name: "p".to_owned(),
            manifest_path: "/p/Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: vec![Target {
                src_path: "/p/lib.rs".into(),
            }],
        };
        let findings = check(&[package], &tree).into_iter();
        findings.map(|finding| finding.words).collect()
    }

    #[test]
    fn a_circle_is_found_through_exports_and_braces() {
        let files = [
            (
                "/p/lib.rs",
                "mod a;\nmod b;\nmod c;\npub use b::{B, X as Y};",
            ),
            ("/p/a.rs", "use std::fmt;\nuse crate::{\n    Y, c::C,\n};"),
            ("/p/b.rs", "mod d;"),
            ("/p/b/d.rs", "use super::super::a::A;"),
            ("/p/c.rs", "// use crate::a::A;"),
        ];
        assert_eq!(
            circles(&files),
            ["a circle of modules, p: a, b (tidy/circles.rs)"]
        );
    }

    #[test]
    fn ancestors_and_tests_make_no_circle() {
        let files = [
            ("/p/lib.rs", "mod a;\nmod b;\nuse a::A;"),
            ("/p/a.rs", "use crate::Root;\nmod tests {\nuse crate::b::B;"),
            ("/p/b.rs", "use super::{Root, a::A};"),
        ];
        assert!(circles(&files).is_empty());
    }
}
