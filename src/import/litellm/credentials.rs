//! `credential_list`: what several entries share under a name.

use super::{Converter, Tree, Wiped};

/// What a credential says, and whether an entry has named it.
pub(super) struct Credential {
    place: String,
    values: Wiped,
    used: bool,
}

impl Converter<'_> {
    /// Reads the list, before the entries that name what is in it.
    pub(super) fn credentials(&mut self, file: &str, config: &Tree) {
        let list = match config.get("credential_list") {
            None | Some(Tree::Null) => return,
            Some(Tree::List(list)) => list,
            Some(other) => {
                let what = format!("is {}; it has to be a list of credentials", other.what());
                return self.made().problem(format!("{file}: credential_list"), what);
            }
        };
        for (index, entry) in list.iter().enumerate() {
            let place = format!("credential_list[{index}]");
            let name = entry.get("credential_name").and_then(Tree::text);
            let values = entry.get("credential_values").filter(|values| matches!(values, Tree::Map(_)));
            let (Some(name), Some(values)) = (name, values) else {
                self.made().problem(place, "has no `credential_name` with a map `credential_values`");
                continue;
            };
            let place = format!("{place} ({})", name.escape_debug());
            for (key, _) in entry.entries() {
                if !["credential_name", "credential_values"].contains(&key.as_str()) {
                    self.left_out(format!("{place}.{}", key.escape_debug()), "there is no field for it");
                }
            }
            let values = Wiped(vec![values.clone()]);
            let credential = Credential { place, values, used: false };
            if let Some(before) = self.known_credentials.insert(name.to_owned(), credential) {
                self.left_out(before.place.clone(), "a later one of the same name is taken");
            }
        }
    }

    /// The parameters of an entry with those of the credential that it names. What the entry says itself comes first.
    ///
    /// # Errors
    /// When there is no such credential: its key would be another one than is meant.
    pub(super) fn with_credential(&mut self, params: &Tree) -> Result<Wiped, String> {
        let mut all = params.entries().to_vec();
        if let Some(named) = params.get("litellm_credential_name") {
            let name = named.text().ok_or_else(|| {
                format!(
                    "names its credential by {}; it has to be the name of one in `credential_list`",
                    named.what()
                )
            })?;
            let Some(credential) = self.known_credentials.get_mut(name) else {
                let name = name.escape_debug();
                return Err(format!("names the credential `{name}`, which `credential_list` does not have"));
            };
            credential.used = true;
            let values = credential.values.0.iter().flat_map(Tree::entries);
            all.extend(values.filter(|(key, _)| params.get(key).is_none()).cloned());
        }
        Ok(Wiped(vec![Tree::Map(all)]))
    }

    /// Tells of those that nothing came of.
    pub(super) fn unused_credentials(&mut self) {
        for (_, credential) in std::mem::take(&mut self.known_credentials) {
            if !credential.used {
                self.left_out(credential.place.clone(), "no entry of model_list names it");
            }
        }
    }
}
