//! Patterns that are taken, and those that are not.

use super::*;

#[test]
fn what_may_take_for_ever_is_refused() {
    for pattern in [
        "(a+)+$",
        "(a*)*",
        "(a|a)*b",
        r"^(\w|\d)*$",
        "(a|aa)+$",
        "(a|ab?)*$",
        "((a*)?b)*c",
        "(a*b*)*c",
        r"^(\w+\s?)*$",
        r"(\s*\S+\s*)+x",
        "(.*,)*",
        "(a{1,3})+$",
        "((ab)+|aba?b)*$",
        r"^([/\w .-]*)*/?$",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
    ] {
        let told = problem(pattern).unwrap_or_default();
        assert!(told.contains("in several ways"), "{pattern}: {told}");
    }
}

#[test]
fn what_people_write_is_taken() {
    for pattern in [
        "",
        "^a+$",
        "^[a-z]+(-[a-z0-9]+)*$",
        "^([a-z]+-)*[a-z]+$",
        r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        "^([0-9a-f]{2})+$",
        "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
        "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        r"^https?:\/\/[\w.-]+(:\d+)?(\/[\w.~-]*)*$",
        "^(red|green|blue)(,(red|green|blue))*$",
        "^(?<year>[0-9]{4})$",
        r"^\p{L}+$",
        "^.{1,200}$",
        r"^\s*\w+\s*=\s*\w+\s*$",
        "^[+-]?[0-9]+(\\.[0-9]+)?$",
    ] {
        assert_eq!(problem(pattern), None, "{pattern}");
    }
}

#[test]
fn what_is_not_bounded_is_refused() {
    for (pattern, told) in [
        (r"(a)\1", "looks around or refers back"),
        ("^(?!x)a", "looks around or refers back"),
        ("(?<=x)a", "looks around or refers back"),
        ("(", "is not a regular expression that can be taken: unclosed group"),
        ("[z-a]", "is not a regular expression"),
        (&"(".repeat(100), "is not a regular expression"),
        (&"a".repeat(501), "501 characters; at most 500"),
        (&format!("({})*", "abcdefghij".repeat(5)), "more than 48 letters"),
    ] {
        let found = problem(pattern).unwrap_or_default();
        assert!(found.contains(told), "{pattern:.40}: {found}");
    }
}

#[test]
fn regression_what_follows_each_other_is_counted_too() {
    let optional = format!("{}{}", "a?".repeat(50), "a".repeat(50));
    let doubled = "(a|a)?".repeat(30);
    let words = "(a|a)".repeat(30);
    for pattern in ["a*a*a*a*a*b", r"\w+\d*\w*\d+\w+x", ".*.*.*.*.*=", &optional, &doubled, &words] {
        let told = problem(pattern).unwrap_or_default();
        assert!(told.contains("read the same letters"), "{pattern}: {told}");
    }
    assert!(problem("^(a?){50}a{50}$").unwrap_or_default().contains("in several ways"));
}

#[test]
fn regression_what_engines_read_in_different_ways_is_refused() {
    for pattern in ["(?i)a", "(?i:a)", "[a-z&&[^b]]", "[a--b]", "[a~~b]", "[[a]b]"] {
        let told = problem(pattern).unwrap_or_default();
        assert!(told.contains("flags such as"), "{pattern}: {told}");
    }
    assert_eq!(problem("(?:a)"), None);
}

#[test]
fn to_find_out_takes_little_time() {
    let begun = std::time::Instant::now();
    let group = format!("({}[a-z]?)*", "[a-z]?".repeat(46));
    for _ in 0..5 {
        assert!(problem(&group).is_some());
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// What holds no letter, or comes after the last place, was copied at every level: 24 times 24 times 24.
#[test]
fn regression_counted_groups_in_counted_groups_are_not_copied_without_end() {
    let nested = |inner: &str| (0..12).fold(inner.to_owned(), |inner, _| format!("(?:{inner}){{24}}"));
    for inner in [r"\b", "", "^", "a{0}", "|", "a", "(?:a{0}|b)"] {
        let _ = problem(&nested(inner));
        let full = format!("(?:{}{})*", "a".repeat(49), nested(inner));
        assert!(problem(&full).unwrap_or_default().contains("more than 48 letters"), "{inner}");
    }
    assert!(problem(&nested(r"\b")).unwrap_or_default().contains("in several ways"));
}
