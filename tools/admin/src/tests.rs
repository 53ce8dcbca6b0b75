//! The tree is whole: every verb has examples that its own command line takes, and every leaf a schema for its JSON.

use std::{collections::BTreeSet, fs, path::Path};

use clap::Command;

use super::*;

/// The leaves of the tree: the words that lead there, and the command.
fn leaves(words: &[String], command: &Command, found: &mut Vec<(Vec<String>, Command)>) {
    if command.get_subcommands().next().is_none() {
        found.push((words.to_vec(), command.clone()));
    }
    for verb in command.get_subcommands() {
        let words = [words, &[verb.get_name().to_owned()]].concat();
        leaves(&words, verb, found);
    }
}

fn all_leaves() -> Vec<(Vec<String>, Command)> {
    let mut found = Vec::new();
    leaves(&[], &command::root(), &mut found);
    found
}

/// Every command with help of its own.
fn commands(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().flat_map(commands);
    std::iter::once(command.clone()).chain(below).collect()
}

fn examples(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (_, examples) = help
        .split_once("Examples:\n")
        .unwrap_or_else(|| panic!("{} has no Examples: in its after_help", command.get_name()));
    examples.to_owned()
}

/// The words of a line for a shell, up to a pipe, a redirection or the remark behind it. `None` where only a shell could
/// tell.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    let mut spaces = 0;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some('"') | None, '$' | '`') => return None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                words.extend(word.take());
                spaces += 1;
                if spaces > 1 {
                    return Some(words);
                }
                continue;
            }
            (None, '|' | '>') => return Some(words),
            _ => word.get_or_insert_default().push(character),
        }
        spaces = 0;
    }
    words.extend(word);
    Some(words)
}

#[test]
fn the_tree_is_sound() {
    command::root().debug_assert();
}

#[test]
fn every_example_is_taken_by_the_command_line() {
    let mut tried = 0;
    for command in commands(&command::root()) {
        for line in examples(&command).lines() {
            let Some(place) = line.find("continuum-admin ") else {
                continue;
            };
            let Some(words) = words(&line[place..]) else { continue };
            let outcome = command::root().try_get_matches_from(&words);
            assert!(outcome.is_ok(), "{line}\n{}", outcome.unwrap_err());
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried} examples were found");
}

#[test]
fn every_leaf_shows_itself_in_an_example() {
    for (words, command) in all_leaves() {
        let call = words.join(" ");
        assert!(examples(&command).contains(&call), "no example of {call}");
        assert!(command.get_about().is_some(), "{call} does not say what it does");
    }
}

#[test]
fn every_leaf_has_a_schema_and_every_schema_a_leaf() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let file = |(words, _): &(Vec<String>, Command)| format!("{}.json", words.join("-"));
    let mut expected: BTreeSet<String> = all_leaves().iter().map(file).collect();
    // An option that asks for something else than the verb alone does.
    expected.insert("verify-cluster.json".to_owned());
    let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let there: BTreeSet<String> = there.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(there, expected);
    for name in there {
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        assert!(schema["title"].is_string(), "{name} does not say what it describes");
    }
}

#[test]
fn whatever_destroys_can_be_tried_and_confirmed() {
    for call in [["delete", ""], ["snapshot", "delete"], ["cluster", "remove"]] {
        let words: Vec<String> = call
            .iter()
            .filter(|word| !word.is_empty())
            .map(ToString::to_string)
            .collect();
        let leaves = all_leaves();
        let (_, command) = leaves.iter().find(|(found, _)| *found == words).unwrap();
        let has = |name: &str| {
            command
                .get_arguments()
                .any(|argument| argument.get_long() == Some(name))
        };
        assert!(has("yes") && has("dry-run"), "{words:?}");
    }
}

#[test]
fn times_need_units() {
    assert_eq!(command::duration("1h30m").unwrap().as_secs(), 5_400);
    assert_eq!(command::duration("500ms").unwrap().as_millis(), 500);
    for wrong in ["", "10", "-1s", "0s", "soon"] {
        assert!(command::duration(wrong).is_err(), "{wrong}");
    }
}
