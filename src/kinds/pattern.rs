//! Regular expressions that workers are given, in JSON Schemas: whether any engine matches them in bounded time.
//!
//! Many engines go back and try again. What a group that is repeated can read in two ways, they try in both, and each further
//! letter doubles the work: `(a+)+$` takes years for a line of `a`. Such a pattern is found by its automaton. Must not know what
//! a pattern is for.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use regex_syntax::{
    ast::{self, Ast, RepetitionKind, RepetitionRange, parse::ParserBuilder},
    hir::{Class, HirKind, translate::Translator},
};

/// Characters of a pattern.
const PATTERN_CHARS: usize = 500;
/// Levels of groups.
const NESTED: u32 = 32;
/// Letters, or classes of them, in a group that is repeated.
const POSITIONS: usize = 48;
/// Copies of a counted part are told apart up to so many letters; beyond, it counts as one of any length.
const UNROLLED: usize = 24;
/// Repetitions without a bound, or with a high one, that read the same letters; and choices of any kind that do.
const UNBOUNDED: usize = 4;
const CHOICES: usize = 10;
/// Choices of a pattern.
const ALL_CHOICES: usize = 40;
/// The highest bound of a repetition that counts as one choice of a few.
const FEW: u32 = 4;
const UNREADABLE: &str = "is not a regular expression that can be taken";

/// Says what is wrong with a pattern, if anything; the text reads on from its place.
pub(super) fn problem(pattern: &str) -> Option<String> {
    let length = pattern.chars().count();
    if length > PATTERN_CHARS {
        return Some(format!("is a pattern of {length} characters; at most {PATTERN_CHARS} are allowed"));
    }
    let parsed = ParserBuilder::new().nest_limit(NESTED).build().parse(pattern);
    let ast = match parsed {
        Ok(ast) => ast,
        Err(error) => return Some(syntax_problem(error.kind())),
    };
    if ast::visit(&ast, Dialect).is_err() {
        return Some(
            "is a pattern with flags such as `(?i)`, or a class within a class or with `&&`, `--` or `~~`: engines read them in \
             different ways; write the letters out"
                .to_owned(),
        );
    }
    match Translator::new().translate(pattern, &ast) {
        Ok(_) => {
            let source = Source { pattern, classes: RefCell::default() };
            let looped = loops(&ast).into_iter().find_map(|group| loop_problem(&source, group));
            looped.or_else(|| choices_problem(&source, &ast))
        }
        Err(error) => Some(format!("{UNREADABLE}: {}", error.kind())),
    }
}

/// Refuses what only some engines know, or read as something else.
struct Dialect;

impl ast::Visitor for Dialect {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        let has_flags = match ast {
            Ast::Flags(_) => true,
            Ast::Group(group) => group.flags().is_some_and(|flags| !flags.items.is_empty()),
            _ => false,
        };
        if has_flags { Err(()) } else { Ok(()) }
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), ()> {
        if matches!(item, ast::ClassSetItem::Bracketed(_)) { Err(()) } else { Ok(()) }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), ()> {
        Err(())
    }
}

/// What can be read in more than one way: a repetition whose count is open, or words of which several begin alike.
struct Choice {
    /// The letters that it reads, as ranges.
    letters: Vec<(u32, u32)>,
    is_unbounded: bool,
}

/// Too many choices that read the same letters: an engine that goes back tries each of one with each of the others.
fn choices_problem(source: &Source<'_>, ast: &Ast) -> Option<String> {
    let mut choices = Vec::new();
    collect_choices(source, ast, &mut choices);
    let is_crowded = |one: &Choice| {
        let alike = || choices.iter().filter(|other| meet(&one.letters, &other.letters));
        alike().count() > CHOICES || alike().filter(|other| other.is_unbounded).count() > UNBOUNDED
    };
    (choices.len() > ALL_CHOICES || choices.iter().any(is_crowded)).then(|| {
        format!(
            "is a pattern with more than {UNBOUNDED} repetitions without a bound, or {CHOICES} choices, that read the same \
             letters, as `a*a*a*a*a*` has: engines that go back try each with each; make it simpler"
        )
    })
}

fn collect_choices(source: &Source<'_>, ast: &Ast, found: &mut Vec<Choice>) {
    let mut choice = |is_unbounded| {
        if found.len() <= ALL_CHOICES {
            found.push(Choice { letters: letters(source, ast, |_| true), is_unbounded });
        }
    };
    match ast {
        Ast::Repetition(repetition) => {
            let (min, max) = bounds(&repetition.op.kind);
            if max != Some(min) {
                choice(max.is_none_or(|max| max > FEW));
            }
            // What is repeated was judged as a group.
            if max.is_some_and(|max| max <= 1) {
                collect_choices(source, &repetition.ast, found);
            }
        }
        Ast::Group(group) => collect_choices(source, &group.ast, found),
        Ast::Concat(concat) => concat.asts.iter().for_each(|ast| collect_choices(source, ast, found)),
        Ast::Alternation(alternation) => {
            let words = &alternation.asts;
            let begin = |ast: &Ast| letters(source, ast, |is_first| is_first);
            let begins: Vec<_> = words.iter().map(begin).collect();
            let alike = |(at, one): (usize, &Vec<(u32, u32)>)| {
                begins.iter().skip(at + 1).any(|other| meet(one, other))
            };
            if begins.iter().enumerate().any(alike) {
                choice(false);
            }
            words.iter().for_each(|ast| collect_choices(source, ast, found));
        }
        _ => {}
    }
}

/// What a part reads, or begins with, as ranges in order that don't meet; anything where it is too large to look at.
fn letters(source: &Source<'_>, ast: &Ast, such: impl Fn(bool) -> bool) -> Vec<(u32, u32)> {
    let mut automaton = Automaton::of(source);
    let first = automaton.part(ast).first;
    if automaton.is_full {
        return vec![(0, u32::MAX)];
    }
    let chosen = automaton.classes.iter().enumerate().filter(|(place, _)| such(first & (1 << place) != 0));
    let mut ranges: Vec<(u32, u32)> = chosen.flat_map(|(_, class)| class.iter()).copied().collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let meets = next.0 <= last.1;
        last.1 = if meets { last.1.max(next.1) } else { last.1 };
        meets
    });
    ranges
}

fn meet(ones: &[(u32, u32)], others: &[(u32, u32)]) -> bool {
    let (mut ones, mut others) = (ones.iter().peekable(), others.iter().peekable());
    while let (Some(one), Some(other)) = (ones.peek(), others.peek()) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return true;
        }
        let _ = if one.1 < other.1 { ones.next() } else { others.next() };
    }
    false
}

fn syntax_problem(kind: &ast::ErrorKind) -> String {
    match kind {
        ast::ErrorKind::UnsupportedLookAround | ast::ErrorKind::UnsupportedBackreference => {
            "is a pattern that looks around or refers back, as `(?=` and `\\1` do: nothing bounds the time of that; write it \
             without"
                .to_owned()
        }
        kind => format!("{UNREADABLE}: {kind}"),
    }
}

/// How often something is repeated: at least, and at most where there is a bound.
fn bounds(kind: &RepetitionKind) -> (u32, Option<u32>) {
    match *kind {
        RepetitionKind::ZeroOrOne => (0, Some(1)),
        RepetitionKind::ZeroOrMore => (0, None),
        RepetitionKind::OneOrMore => (1, None),
        RepetitionKind::Range(RepetitionRange::Exactly(count)) => (count, Some(count)),
        RepetitionKind::Range(RepetitionRange::AtLeast(least)) => (least, None),
        RepetitionKind::Range(RepetitionRange::Bounded(least, most)) => (least, Some(most)),
    }
}

/// The outermost groups that are repeated: only what is in one of them can be read over and over.
fn loops(ast: &Ast) -> Vec<&Ast> {
    match ast {
        Ast::Repetition(repetition) => match bounds(&repetition.op.kind) {
            (_, Some(0 | 1)) => loops(&repetition.ast),
            _ => vec![&repetition.ast],
        },
        Ast::Group(group) => loops(&group.ast),
        Ast::Concat(concat) => concat.asts.iter().flat_map(loops).collect(),
        Ast::Alternation(alternation) => alternation.asts.iter().flat_map(loops).collect(),
        _ => Vec::new(),
    }
}

fn loop_problem(source: &Source<'_>, group: &Ast) -> Option<String> {
    let mut automaton = Automaton::of(source);
    let part = automaton.part(group);
    automaton.link(part.last, part.first);
    if automaton.is_full {
        return Some(format!(
            "is a pattern that repeats a group of more than {POSITIONS} letters or classes; make the group smaller"
        ));
    }
    // What may be nothing can be so at any turn.
    (part.is_empty || automaton.is_ambiguous()).then(|| {
        "is a pattern with a repeated group that can read one text in several ways, as `(a+)+` can: engines that go back \
         try all of them, which may take for ever; let each turn of the group begin or end with what is nowhere else in it, \
         such as `(-[a-z]+)*`"
            .to_owned()
    })
}

/// What a letter of a pattern, or a class of them, reads, as ranges.
type Ranges = Rc<[(u32, u32)]>;

/// A pattern, and the classes in it that have been read: one of Unicode's has hundreds of ranges, and may stand at every place.
struct Source<'p> {
    pattern: &'p str,
    classes: RefCell<HashMap<&'p str, Ranges>>,
}

impl Source<'_> {
    /// What a single letter of the pattern, or a class of letters, reads.
    fn class(&self, ast: &Ast) -> Ranges {
        let span = ast.span();
        let text = &self.pattern[span.start.offset..span.end.offset];
        let mut classes = self.classes.borrow_mut();
        classes.entry(text).or_insert_with(|| ranges(self.pattern, ast).into()).clone()
    }
}

fn ranges(pattern: &str, ast: &Ast) -> Vec<(u32, u32)> {
    let Ok(hir) = Translator::new().translate(pattern, ast) else { return Vec::new() };
    match hir.kind() {
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0);
            text.chars().map(|letter| (letter.into(), letter.into())).collect()
        }
        HirKind::Class(Class::Unicode(class)) => {
            class.iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
        _ => Vec::new(),
    }
}

/// The letters of a group, by place, and which may follow which.
struct Automaton<'s, 'p> {
    source: &'s Source<'p>,
    /// What each place reads.
    classes: Vec<Ranges>,
    /// The places that may come next, a bit each.
    follow: Vec<u64>,
    /// Whether one place may follow another in two ways, or a part be left out in two.
    is_doubled: bool,
    /// Whether there are more places than are looked at.
    is_full: bool,
}

/// A part of it.
#[derive(Clone, Copy)]
struct Part {
    is_empty: bool,
    first: u64,
    last: u64,
}

const NOTHING: Part = Part { is_empty: true, first: 0, last: 0 };

impl<'s, 'p> Automaton<'s, 'p> {
    fn of(source: &'s Source<'p>) -> Self {
        Self { source, classes: Vec::new(), follow: Vec::new(), is_doubled: false, is_full: false }
    }

    fn part(&mut self, ast: &Ast) -> Part {
        match ast {
            Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => NOTHING,
            Ast::Literal(_)
            | Ast::Dot(_)
            | Ast::ClassUnicode(_)
            | Ast::ClassPerl(_)
            | Ast::ClassBracketed(_) => {
                let class = self.source.class(ast);
                self.place(class)
            }
            Ast::Group(group) => self.part(&group.ast),
            Ast::Concat(concat) => {
                let mut whole = NOTHING;
                for ast in &concat.asts {
                    let next = self.part(ast);
                    whole = self.then(whole, next);
                }
                whole
            }
            Ast::Alternation(alternation) => {
                let mut whole = Part { is_empty: false, ..NOTHING };
                for ast in &alternation.asts {
                    let Part { is_empty, first, last } = self.part(ast);
                    self.is_doubled |= whole.is_empty && is_empty;
                    whole.is_empty |= is_empty;
                    whole.first |= first;
                    whole.last |= last;
                }
                whole
            }
            Ast::Repetition(repetition) => self.repetition(&repetition.ast, bounds(&repetition.op.kind)),
        }
    }

    fn repetition(&mut self, ast: &Ast, (min, max): (u32, Option<u32>)) -> Part {
        if max == Some(0) {
            return NOTHING;
        }
        let before = self.classes.len();
        let once = self.part(ast);
        let size = self.classes.len() - before;
        // Each copy adds a place, or none is made: so there are no more copies than places, however deep they are nested.
        if size == 0 || self.is_full {
            self.is_doubled |= size == 0 && max != Some(min);
            return Part { is_empty: once.is_empty || min == 0, ..once };
        }
        let whole = match max {
            Some(max) if size.saturating_mul(max as usize) <= UNROLLED => {
                // `x{1,3}` as `x(x(x)?)?`: the first copy is there already, the others come from within.
                let copies: Vec<Part> = (1..max).map(|_| self.part(ast)).collect();
                let mut rest = NOTHING;
                for (place, copy) in (1..max).zip(copies).rev() {
                    rest = self.then(copy, rest);
                    if place >= min {
                        rest = self.optional(rest);
                    }
                }
                self.then(once, rest)
            }
            Some(1) => once,
            _ => {
                self.link(once.last, once.first);
                once
            }
        };
        if min == 0 { self.optional(whole) } else { whole }
    }

    /// What may be left out. What could be empty already can be so in two ways then.
    fn optional(&mut self, part: Part) -> Part {
        self.is_doubled |= part.is_empty;
        Part { is_empty: true, ..part }
    }

    fn place(&mut self, class: Ranges) -> Part {
        let place = self.classes.len();
        if place >= POSITIONS {
            self.is_full = true;
            return NOTHING;
        }
        self.classes.push(class);
        self.follow.push(0);
        Part { is_empty: false, first: 1 << place, last: 1 << place }
    }

    fn then(&mut self, one: Part, other: Part) -> Part {
        self.link(one.last, other.first);
        Part {
            is_empty: one.is_empty && other.is_empty,
            first: one.first | if one.is_empty { other.first } else { 0 },
            last: other.last | if other.is_empty { one.last } else { 0 },
        }
    }

    fn link(&mut self, from: u64, to: u64) {
        for place in places(from) {
            self.is_doubled |= self.follow[place] & to != 0;
            self.follow[place] |= to;
        }
    }

    /// Whether one text can be read in two ways from a place back to it. Everything here is repeated, so that each place leads to
    /// each other: it is so if two different places can be reached by one text from one place, and meet again by another.
    fn is_ambiguous(&self) -> bool {
        let alike: Vec<u64> = self.classes.iter().map(|class| self.meeting(class)).collect();
        let size = self.classes.len();
        let next = |(one, other): (usize, usize)| {
            let (ones, others, alike) = (self.follow[one], self.follow[other], &alike);
            places(ones).flat_map(move |to| places(others & alike[to]).map(move |other| (to, other)))
        };
        let mut apart = vec![false; size * size];
        let mut open: Vec<(usize, usize)> = (0..size).map(|place| (place, place)).collect();
        while let Some(pair) = open.pop() {
            for (one, other) in next(pair) {
                if one == other {
                    // A place was left and reached together, which is no harm, or this pair was apart.
                    if pair.0 != pair.1 {
                        return true;
                    }
                } else if !std::mem::replace(&mut apart[one * size + other], true) {
                    open.push((one, other));
                }
            }
        }
        self.is_doubled
    }

    /// The places that read something that a class reads as well.
    fn meeting(&self, class: &[(u32, u32)]) -> u64 {
        let meet = |other: &Ranges| {
            class.iter().any(|one| other.iter().any(|other| one.0 <= other.1 && other.0 <= one.1))
        };
        let found = self.classes.iter().enumerate().filter(|(_, other)| meet(other));
        found.fold(0, |mask, (place, _)| mask | 1 << place)
    }
}

/// The places of a set.
fn places(set: u64) -> impl Iterator<Item = usize> + Clone {
    (0..POSITIONS).filter(move |place| set & (1 << place) != 0)
}

#[cfg(test)]
mod tests;
