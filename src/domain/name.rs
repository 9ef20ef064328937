//! Resource names: paths in the style of AIP-122.
//!
//! A [`ResourceName`] is well formed; which kind it belongs to, and whether that kind exists, is for `kinds` to say.

use std::{fmt, sync::Arc};

use super::limits;

/// A well-formed resource name, for example `providers/groq/apiKeys/prod`. Ordered bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

/// Name of a kind, which is also the name of its arm in `Resource.spec`: `provider`, `api_key`, `setting`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KindName(pub &'static str);

/// Why a text is not a resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("is required, for example `providers/groq`")]
    Empty,
    /// The whole name is too long.
    #[error("is {0} bytes long; at most {max} are allowed", max = limits::NAME_BYTES)]
    TooLong(usize),
    /// One segment is empty.
    #[error("has an empty segment; write `collection/id` without leading, trailing or doubled `/`")]
    EmptySegment,
    /// One segment is too long.
    #[error("has a segment of {0} bytes; at most {max} are allowed", max = limits::SEGMENT_BYTES)]
    SegmentTooLong(usize),
    /// One segment holds something that is not allowed. It is not shown: a secret may have got into the wrong field.
    #[error(
        "has a segment that is not allowed; segments begin with a letter or digit and go on with letters, digits and \
         `._:@+-`"
    )]
    Segment,
}

impl ResourceName {
    /// Checks `text` against the rules of api.md.
    ///
    /// # Errors
    /// Says which rule is broken; the message reads on from the field's path.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::NAME_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments between the slashes; never empty.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The name of the resource that this one lives beneath, if it has four segments or more.
    #[must_use]
    pub fn parent(&self) -> Option<ResourceName> {
        let mut ends = self.0.rmatch_indices('/').map(|(index, _)| index);
        let (_, end) = (ends.next()?, ends.next()?);
        self.0[..end].contains('/').then(|| Self(Arc::from(&self.0[..end])))
    }

    /// The prefix of everything beneath this resource: the name and a slash.
    #[must_use]
    pub fn beneath(&self) -> String {
        format!("{}/", self.0)
    }
}

/// Checks one segment of a name, or the part of a prefix between two slashes.
///
/// # Errors
/// Says which rule is broken.
pub fn check_segment(segment: &str) -> Result<(), NameError> {
    let bytes = segment.as_bytes();
    let Some(first) = bytes.first() else {
        return Err(NameError::EmptySegment);
    };
    if bytes.len() > limits::SEGMENT_BYTES {
        return Err(NameError::SegmentTooLong(bytes.len()));
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:@+-".contains(byte);
    if !first.is_ascii_alphanumeric() || !bytes.iter().all(allowed) {
        return Err(NameError::Segment);
    }
    Ok(())
}

impl fmt::Display for ResourceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for ResourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_paths_and_finds_their_parents() {
        let key = ResourceName::parse("providers/groq/apiKeys/prod").unwrap();
        assert_eq!(key.id(), "prod");
        assert_eq!(key.parent().unwrap().as_str(), "providers/groq");
        assert_eq!(key.parent().unwrap().parent(), None);
    }

    /// It may be a secret that got into the wrong field.
    #[test]
    fn regression_what_is_no_name_is_not_shown() {
        for bad in ["providers/groq/apiKeys/sk-live canary", "settings/-canary", "canary canary"] {
            let told = ResourceName::parse(bad).err().unwrap().to_string();
            assert!(told.starts_with("has a segment that is not allowed;"), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for bad in ["", "/", "a//b", "a/", "/a", "a/.b", "a/b c", "a/\u{0}", "a/ä", "a/b%2fc", "-a/b"] {
            assert!(ResourceName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ResourceName::parse(&"a".repeat(129)).is_err());
        assert!(ResourceName::parse(&["a".repeat(127).as_str(); 5].join("/")).is_err());
    }
}
