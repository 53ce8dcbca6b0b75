//! `man`: the manual, in the form of man(1).

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;
use serde_json::json;

use super::Verb;
use crate::{
    command,
    error::{Code, Failure},
    session::Session,
};

/// Print the manual, or write a page for each verb
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin man | man -l -                        read the page of the whole program
  continuum-admin man --dir /usr/local/share/man/man1   install a page for each verb")]
pub(super) struct Man {
    /// Write a page for the program and each verb into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Verb for Man {
    const NAME: &'static str = "man";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let mut root = command::root();
        // Spells out what verbs inherit from the program.
        root.build();
        let Some(folder) = self.dir else {
            let text = render("continuum-admin", &root)?;
            let json = json!({ "pages": [{ "name": "continuum-admin.1", "text": text }] });
            return session.output.data(&json, || text);
        };
        let mut pages = Vec::new();
        walk("continuum-admin", &root, &mut pages)?;
        fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
        let mut files = Vec::new();
        for (name, text) in &pages {
            let path = folder.join(format!("{name}.1"));
            fs::write(&path, text).map_err(|error| cannot_write(&path, &error))?;
            files.push(json!({ "name": format!("{name}.1"), "path": path }));
        }
        session
            .output
            .say(&format!("wrote {} pages to {}", files.len(), folder.display()));
        session.output.data(&json!({ "pages": files }), String::new)
    }
}

/// The command and all below it.
fn walk(name: &str, command: &Command, pages: &mut Vec<(String, String)>) -> Result<(), Failure> {
    pages.push((name.to_owned(), render(name, command)?));
    for verb in command.get_subcommands() {
        walk(&format!("{name}-{}", verb.get_name()), verb, pages)?;
    }
    Ok(())
}

fn render(name: &str, command: &Command) -> Result<String, Failure> {
    let command = command.clone().display_name(name);
    let mut page = Vec::new();
    let rendered = Page::new(command).title(name).render(&mut page);
    rendered.map_err(|error| Failure::system("making the manual", &error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::CannotCreate, format!("cannot write {}: {error}", path.display()))
}
