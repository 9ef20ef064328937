//! The fields of requests that are carried out as another write: an error names those that the caller knows.

use crate::{
    domain::{Error, FieldViolation, ResourceName, Result, Unmet},
    kinds,
};

/// The error with its fields as the caller knows them: what begins with the first of a pair begins with the second instead.
pub(super) fn renamed(error: Error, names: &[(&str, &str)]) -> Error {
    renamed_by(error, |field| {
        names.iter().find_map(|(own, told)| Some(format!("{told}{}", field.strip_prefix(own)?)))
    })
}

/// The error with its fields as the caller knows them; those stay for which there is no other name.
pub(super) fn renamed_by(error: Error, told: impl Fn(&str) -> Option<String>) -> Error {
    let rename = |field: String| told(&field).unwrap_or(field);
    match error {
        Error::At { field, cause } => {
            let cause = match *cause {
                Error::Missing { description, unmet } => {
                    let named = |one: Unmet| Unmet { field: rename(one.field), ..one };
                    Error::Missing { description, unmet: unmet.into_iter().map(named).collect() }
                }
                cause => cause,
            };
            Error::At { field: rename(field), cause: Box::new(cause) }
        }
        Error::Invalid(found) => Error::Invalid(
            found
                .into_iter()
                .map(|violation| FieldViolation { field: rename(violation.field), ..violation })
                .collect(),
        ),
        other => other,
    }
}

/// Reads the name of a resource of one kind.
///
/// # Errors
/// `Invalid`, with the pattern that its names have.
pub(super) fn parse_named(field: &str, text: &str, kind: &str) -> Result<ResourceName> {
    match kinds::parse_name(text) {
        Ok((name, found)) if found.name().0 == kind => Ok(name),
        Ok(_) => Err(Error::invalid(field, "WRONG_KIND", wanted(kind))),
        Err(why) => Err(Error::invalid(field, "INVALID_NAME", why)),
    }
}

/// As [`parse_named`], for fields in which somebody may put a key by mistake: what is there is not repeated.
///
/// # Errors
/// `Invalid`.
pub(super) fn parse_unrepeated(field: &str, text: &str, kind: &str) -> Result<ResourceName> {
    match kinds::parse_name(text) {
        Ok(_) => parse_named(field, text, kind),
        Err(_) => {
            Err(Error::invalid(field, "INVALID_NAME", format!("{}, never a key's value", wanted(kind))))
        }
    }
}

/// What a name of a kind looks like.
fn wanted(kind: &str) -> String {
    let known = kinds::registry().iter().find(|known| known.name().0 == kind);
    let pattern = known.and_then(|kind| kind.patterns().first()).copied().unwrap_or_default();
    format!("must be the name of a resource `{pattern}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_as_the_caller_knows_them() {
        let names =
            [("resource.router.primary", "provider"), ("resource.router.fallbacks", "fallbacks.providers")];
        let violations = vec![
            FieldViolation::new("resource.router.fallbacks[2]", "R", "is wrong"),
            FieldViolation::new("reason", "R", "is wrong"),
        ];
        let Error::Invalid(told) = renamed(Error::Invalid(violations), &names) else {
            panic!("another error")
        };
        assert_eq!(told[0].field, "fallbacks.providers[2]");
        assert_eq!(told[1].field, "reason");
        let missing = Error::NotFound { name: "providers/x".into() };
        let told = renamed(missing.clone().at("resource.router.primary"), &names);
        assert_eq!(told, missing.clone().at("provider"));
        assert_eq!(renamed(missing.clone(), &names), missing);
    }

    #[test]
    fn a_name_of_another_kind_is_told_what_is_wanted() {
        assert!(parse_named("name", "providers/groq", "provider").is_ok());
        let Err(Error::Invalid(told)) = parse_named("name", "providers/groq", "api_key") else {
            panic!("accepted")
        };
        assert!(told[0].description.contains("`providers/{id}/apiKeys/{id}`"));
        assert!(parse_named("name", "", "provider").is_err());
        let Err(Error::Invalid(told)) = parse_unrepeated("api_key", "sk-~secret", "api_key") else {
            panic!("accepted")
        };
        assert!(told[0].description.contains("`providers/{id}/apiKeys/{id}`, never"));
        assert!(!told[0].description.contains("secret"));
    }
}
