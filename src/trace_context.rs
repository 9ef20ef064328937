//! The one spelling of a trace context (W3C `traceparent` and `tracestate`): what both ends of a call, the log and a watch
//! hand on.
//!
//! It must not know who traces, or how a context travels.

use std::{collections::BTreeSet, fmt};

#[cfg(any(feature = "server", feature = "otel"))]
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState as Members};

/// Which span of which trace something belongs to, and whether that trace is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// What tracing systems say of a trace beside its context, to each other: handed on as it came, and looked at by nobody here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceState(String);

/// A span as others know it: which one it is, and what is said beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The span.
    pub parent: TraceParent,
    /// What is said beside it; mostly nothing.
    pub state: TraceState,
}

/// Characters of a context of version 00.
const CHARS: usize = 55;
/// Characters of a state, as many as the standard has everybody hand on.
const STATE_CHARS: usize = 512;
/// Members that a state may have.
const STATE_MEMBERS: usize = 32;
/// Characters that the name of a member may have, and its value.
const MEMBER_CHARS: usize = 256;

impl TraceParent {
    /// The context of a span; `None` where trace or span is zero, which the standard calls invalid.
    #[must_use]
    pub fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled })
    }

    /// Reads one that somebody sent. `None` if it is none: who sent it may have sent anything. Of a later version the parts
    /// that this one knows are read, as the standard has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(CHARS)?;
        let mut parts = known.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let whole = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
        let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !whole || ![version, trace, span, flags].into_iter().all(lower) {
            return None;
        }
        let ends = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if version == "ff" || !ends {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Self::new(u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?, flags & 1 == 1)
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> u128 {
        self.trace
    }

    /// The span.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// The trace as it is shown: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceParent {
    /// As the header has it, in version 00.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl TraceState {
    /// Reads one that somebody sent; empty if it is none, because who sent it may have sent anything. Of one that is longer than
    /// is handed on, the oldest members are left out, which are the last.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let blank = [' ', '\t'];
        let members: Vec<&str> = text
            .split(',')
            .map(|member| member.trim_matches(blank))
            .filter(|member| !member.is_empty())
            .collect();
        let names: Option<BTreeSet<&str>> = members.iter().copied().map(member_name).collect();
        if members.len() > STATE_MEMBERS || names.is_none_or(|names| names.len() < members.len()) {
            return Self::default();
        }
        let mut state = String::new();
        for member in members {
            let comma = if state.is_empty() { "" } else { "," };
            if state.len() + comma.len() + member.len() > STATE_CHARS {
                break;
            }
            state = state + comma + member;
        }
        Self(state)
    }

    /// As the header has it; empty for none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a member; `None` if it is none.
fn member_name(member: &str) -> Option<&str> {
    let (name, value) = member.split_once('=')?;
    let in_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let fits = [name, value].into_iter().all(|part| (1..=MEMBER_CHARS).contains(&part.len()));
    (begins && fits && name.bytes().all(in_name) && value.bytes().all(in_value)).then_some(name)
}

impl TraceContext {
    /// Reads what its two headers said; `None` if the first is no context.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let parent = TraceParent::parse(traceparent)?;
        Some(Self { parent, state: TraceState::parse(tracestate) })
    }

    /// Reads one that is written as one text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (parent, state) = text.split_once(' ').unwrap_or((text, ""));
        Self::parse(parent, state)
    }
}

impl From<TraceParent> for TraceContext {
    fn from(parent: TraceParent) -> Self {
        Self { parent, state: TraceState::default() }
    }
}

impl fmt::Display for TraceContext {
    /// As one text: the context, and after a blank what is said beside it, if anything is.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parent, state } = self;
        let blank = if state.0.is_empty() { "" } else { " " };
        write!(out, "{parent}{blank}{}", state.0)
    }
}

/// As OpenTelemetry has it.
#[cfg(any(feature = "server", feature = "otel"))]
impl TraceContext {
    /// The context of a span; `None` of one that nobody traces.
    #[must_use]
    pub(crate) fn of(span: &SpanContext) -> Option<Self> {
        let trace = u128::from_be_bytes(span.trace_id().to_bytes());
        let parent =
            TraceParent::new(trace, u64::from_be_bytes(span.span_id().to_bytes()), span.is_sampled())?;
        Some(Self { parent, state: TraceState(span.trace_state().header()) })
    }

    /// The context as that of a span elsewhere; without what OpenTelemetry does not take for a state.
    #[must_use]
    pub(crate) fn remote(&self) -> SpanContext {
        let Self { parent, state } = self;
        let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let members: Members = state.0.parse().unwrap_or_default();
        SpanContext::new(TraceId::from(parent.trace), SpanId::from(parent.span), flags, true, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_the_same() {
        let context = TraceParent::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.sampled());
        let unsampled = TraceParent::parse(&GOOD.replace("-01", "-00")).unwrap();
        assert!(!unsampled.sampled());
        // A later version may say more, and other flags are not ours to hand on.
        let later = format!("{}-more", GOOD.replacen("00", "cc", 1).replace("-01", "-ff"));
        assert_eq!(TraceParent::parse(&later), Some(context));
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let bad = [
            "",
            "00",
            &GOOD[1..],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replacen("00-", "cc-", 1).replace("-01", "-010"),
            &GOOD.replace('b', "+"),
            &GOOD.replace("-b", "_b"),
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            &"é".repeat(40),
            zero_trace,
            zero_span,
        ];
        for text in bad {
            assert_eq!(TraceParent::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_state_is_read_as_it_is_written_and_what_is_none_is_empty() {
        for (sent, read) in [
            ("a=b,c=d", "a=b,c=d"),
            (" a=b ,\t, 1@v/x-y_z*=!~ :; ", "a=b,1@v/x-y_z*=!~ :;"),
            ("", ""),
            (",,", ""),
        ] {
            assert_eq!(TraceState::parse(sent).as_str(), read, "{sent:?}");
            assert_eq!(TraceState::parse(read).as_str(), read);
        }
        let long = "x".repeat(257);
        let bad = [
            "a",
            "a=",
            "=b",
            "A=b",
            "@a=b",
            "a b=c",
            "a=b=c",
            "a=ü",
            "a=b,a=c",
            "a=b\nc=d",
            &format!("a={long}"),
        ];
        for text in bad.into_iter().chain([format!("{long}=a").as_str()]) {
            assert_eq!(TraceState::parse(text), TraceState::default(), "{text:?}");
        }
    }

    #[test]
    fn a_state_has_bounds() {
        let members =
            |count: usize| (0..count).map(|each| format!("k{each}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(TraceState::parse(&members(32)).as_str(), members(32));
        assert_eq!(TraceState::parse(&members(33)).as_str(), "", "more than there may be");
        let exact = format!("a={},b={}", "x".repeat(253), "y".repeat(254));
        assert_eq!((TraceState::parse(&exact).as_str(), exact.len()), (exact.as_str(), 512));
        let kept = TraceState::parse(&format!("n=1,{exact}"));
        assert_eq!(kept.as_str(), format!("n=1,a={}", "x".repeat(253)), "the newest stand first");
    }

    #[test]
    fn a_context_is_one_text() {
        for (state, text) in [("", GOOD.to_owned()), ("a=b,c=d e", format!("{GOOD} a=b,c=d e"))] {
            let context = TraceContext::parse(GOOD, state).unwrap();
            assert_eq!(context.to_string(), text);
            assert_eq!(TraceContext::from_text(&text), Some(context));
        }
        let beside = TraceContext::from_text(&format!("{GOOD} nonsense")).unwrap();
        assert_eq!(beside, TraceParent::parse(GOOD).unwrap().into(), "the span is known all the same");
        assert_eq!(TraceContext::from_text("nonsense a=b"), None);
    }

    #[cfg(any(feature = "server", feature = "otel"))]
    #[test]
    fn a_context_of_a_span_is_the_same_one_elsewhere() {
        for text in [GOOD.to_owned(), format!("{GOOD} 1@v/x-y_z*=!~ :;,c=d"), GOOD.replace("-01", "-00")] {
            let context = TraceContext::from_text(&text).unwrap();
            assert_eq!(TraceContext::of(&context.remote()), Some(context));
        }
    }
}
