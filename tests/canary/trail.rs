//! The secrets that were sent, and everything that came of them.

use std::{cell::RefCell, fs};

use crate::{
    forms::{Forms, contains},
    harness::Home,
};

/// What every canary begins with. Its characters tell the alphabets of base64 apart, and none is escaped in JSON.
const MARK: &str = "sk-canary~?>~?>-";
/// What every token begins with.
const TOKEN_MARK: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9";
/// How much of the neighbourhood of a leak is told.
const CONTEXT: usize = 160;

/// Names of the files that are there to hold a secret.
pub const KEPT: [&str; 3] = ["admin.token", "jwt.key", "encryption.key"];

/// Makes secrets that are told apart, and gathers what may hold none of them, not even their beginning.
pub struct Trail {
    uses: RefCell<Vec<String>>,
    searched: RefCell<Vec<(String, Forms)>>,
    seen: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Trail {
    /// Nothing sent, nothing seen.
    pub fn new() -> Self {
        let marks = [("a canary", MARK), ("a token", TOKEN_MARK)];
        let searched = marks.map(|(what, mark)| (what.to_owned(), Forms::of(mark)));
        Self { uses: RefCell::default(), searched: RefCell::new(searched.into()), seen: RefCell::default() }
    }

    /// A new secret for a use.
    pub fn canary(&self, used: impl Into<String>) -> String {
        let mut uses = self.uses.borrow_mut();
        uses.push(used.into());
        format!("{MARK}{:016}", uses.len() - 1)
    }

    /// A secret that was made elsewhere: a key.
    pub fn known(&self, what: &str, secret: &str) {
        self.searched.borrow_mut().push((what.to_owned(), Forms::of(secret)));
    }

    /// Something that was answered, printed or written.
    pub fn saw(&self, what: impl Into<String>, bytes: &[u8]) {
        self.seen.borrow_mut().push((what.into(), bytes.to_vec()));
    }

    /// Everything that a server has left in its folder, but for the files that are there to hold a secret.
    pub fn saw_files(&self, home: &Home) {
        for folder in ["", "data"] {
            for entry in fs::read_dir(home.path(folder)).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
                if path.is_file() && !KEPT.contains(&name.as_str()) {
                    self.saw(name, &fs::read(&path).expect("a file"));
                }
            }
        }
    }

    /// Whether something of this name was seen that holds a text in the clear: what is searched is not empty.
    pub fn shows(&self, what: &str, text: &str) -> bool {
        self.seen.borrow().iter().any(|(name, bytes)| name.contains(what) && contains(bytes, text.as_bytes()))
    }

    /// Every place where a secret is that should be nowhere, once for each thing that was seen and each form.
    pub fn leaks(&self) -> Vec<String> {
        let (uses, searched, seen) = (self.uses.borrow(), self.searched.borrow(), self.seen.borrow());
        let mut leaks = Vec::new();
        for (what, bytes) in seen.iter() {
            for (secret, forms) in searched.iter() {
                let Some((at, form)) = forms.find(bytes) else { continue };
                let near = &bytes[at.saturating_sub(CONTEXT)..bytes.len().min(at + CONTEXT)];
                let near = String::from_utf8_lossy(near);
                let number =
                    near.split_once(MARK).and_then(|(_, rest)| rest.get(..16)?.parse::<usize>().ok());
                let used = number.and_then(|number| uses.get(number)).map_or("", String::as_str);
                leaks.push(format!("{what} holds {secret} ({form}), sent as {used:?}: {near:?}"));
            }
        }
        leaks
    }
}

#[test]
fn a_canary_is_found_where_it_is() {
    let home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    let trail = Trail::new();
    let (one, two) = (trail.canary("first"), trail.canary("second"));
    assert_ne!(one, two);
    trail.known("the key", "a key that the server has made");
    let write = |name: &str, text: String| fs::write(home.path(name), text).unwrap();
    write("server.log", "nothing".to_owned());
    write("data/jwt.key", one.clone());
    trail.saw_files(&home);
    assert!(
        trail.leaks().is_empty() && trail.shows("server.log", "nothing") && !trail.shows("server", "else")
    );
    trail.saw("an answer", format!("cut short: {}", &two[..20]).as_bytes());
    trail.saw("a token", format!("Bearer {TOKEN_MARK}.e30.x").as_bytes());
    write("data/signalbox.db", hex::encode(&one));
    write("server.log", format!("{two} and a key that the server has made"));
    trail.saw_files(&home);
    let leaks = trail.leaks();
    let begins = |leak: &str| leaks.iter().any(|found| found.starts_with(leak));
    assert_eq!(leaks.len(), 5, "{leaks:?}");
    assert!(begins("an answer holds a canary (plain)"), "{leaks:?}");
    assert!(begins("a token holds a token (plain)"), "{leaks:?}");
    assert!(begins("signalbox.db holds a canary (hex)"), "{leaks:?}");
    assert!(begins("server.log holds a canary (plain), sent as \"second\""), "{leaks:?}");
    assert!(begins("server.log holds the key (plain)"), "{leaks:?}");
}
