//! Names that earlier tools used. They are not read; whoever still sets them is told the new name.

use super::reader::Reader;

const OLD_NAMES: [(&str, &str); 10] = [
    ("CHIMERA_DB_PATH", "SIGNALBOX_DATABASE_URL=sqlite://PATH"),
    ("CHIMERA_ENCRYPTION_KEY", "ENCRYPTION_KEY"),
    ("CHIMERA_ENCRYPTION_PASSWORD", "ENCRYPTION_PASSWORD"),
    ("DB_ENCRYPTION_KEY", "ENCRYPTION_PASSWORD"),
    ("SUPABASE_DB_URL", "SIGNALBOX_DATABASE_URL"),
    ("SUPABASE_DB_HOST", "SIGNALBOX_DATABASE_URL"),
    ("SUPABASE_DB_PORT", "SIGNALBOX_DATABASE_URL"),
    ("SUPABASE_DB_NAME", "SIGNALBOX_DATABASE_URL"),
    ("SUPABASE_DB_USER", "SIGNALBOX_DATABASE_URL"),
    ("SUPABASE_DB_PASSWORD", "SIGNALBOX_DATABASE_URL"),
];

/// Whether it is one of them.
pub fn has(name: &str) -> bool {
    OLD_NAMES.iter().any(|(old, _)| *old == name)
}

/// A warning for each old name that is set.
pub fn warnings(from: &Reader<'_>) -> Vec<String> {
    OLD_NAMES
        .iter()
        .filter(|(old, _)| from.is_in_env(old))
        .map(|(old, new)| format!("{old} is set but not read any more; it is now {new}"))
        .collect()
}
