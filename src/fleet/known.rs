//! What is known of sessions and reports, in memory: what was told here, and what the other replicas wrote.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{GRACE, ORPHANED, view::View};
use crate::{
    domain::{ReplicaId, Report, Session, SessionId, Subject},
    store::{MOST_MEMBERS, Member, News},
};

/// Sessions and reports that are written at once.
const GROUP: usize = 2000;
/// Sessions of one subject that are remembered after they ended. More push the oldest out, so that nobody crowds out others.
const MOST_ENDED: usize = 1000;

/// Everything that is known.
#[derive(Default)]
pub(super) struct Known {
    sessions: HashMap<SessionId, Kept>,
    reports: HashMap<SessionId, Heard>,
    /// Sessions whose reports are to be written.
    unwritten: HashSet<SessionId>,
    /// Sessions of this replica that it does not know any more, and the store takes for open.
    lost: HashSet<SessionId>,
    /// Sessions of this replica that have ended and are remembered, by subject, the oldest first.
    ended: HashMap<Subject, VecDeque<SessionId>>,
    /// When was last asked what the other replicas wrote.
    read: Option<Instant>,
}

struct Kept {
    session: Arc<Session>,
    view: View,
    began: Instant,
    ended: Option<Instant>,
    /// Whether it has ended because its replica vanished.
    orphaned: bool,
    /// Whether this replica serves it.
    here: bool,
    /// When it was last written, if it was.
    written: Option<Instant>,
    /// Whether it is to be written.
    news: bool,
}

impl Kept {
    /// Whether it has ended so long ago that nobody waits for it any more.
    fn is_over(&self) -> bool {
        let keep = if self.orphaned { ORPHANED } else { GRACE };
        self.ended.is_some_and(|ended| ended.elapsed() > keep)
    }
}

struct Heard {
    report: Arc<Report>,
    at: Instant,
}

/// A worker, as it is known at one moment.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its session.
    pub session: Arc<Session>,
    /// What its stream shows.
    pub view: View,
    /// What it reported, if it has.
    pub report: Option<Arc<Report>>,
    /// Whether its stream is open.
    pub connected: bool,
    /// Whether its replica vanished, so that its stream may be open all the same.
    pub orphaned: bool,
    /// When its session began.
    pub began: DateTime<Utc>,
    /// When it was last known to be there.
    pub last_seen: DateTime<Utc>,
}

/// What is being written: given back once it has been.
pub(super) struct Writing {
    pub news: News,
    /// Sessions of `news`, with whether they had ended.
    sessions: Vec<(SessionId, bool)>,
}

impl Known {
    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.sessions.len() >= usize::try_from(MOST_MEMBERS).unwrap_or(usize::MAX)
    }

    /// A stream has opened here. `false`: there are too many.
    pub fn open(&mut self, session: Session, view: View) -> bool {
        if self.is_full() {
            return false;
        }
        let (id, session) = (session.id.clone(), Arc::new(session));
        let began = Instant::now();
        let (ended, orphaned, here, written, news) = (None, false, true, None, true);
        let kept = Kept { session, view, began, ended, orphaned, here, written, news };
        self.sessions.insert(id, kept);
        true
    }

    /// A stream has ended here. It is remembered for a while; of those of one worker that had no secrets only the last.
    pub fn end(&mut self, session: &SessionId) {
        let Some(kept) = self.sessions.get_mut(session) else { return };
        (kept.ended, kept.news) = (Some(Instant::now()), true);
        let this = Arc::clone(&kept.session);
        let ended = self.ended.entry(this.subject.clone()).or_default();
        let sessions = &self.sessions;
        let same = |other: &SessionId| {
            let other = sessions.get(other).map(|kept| &kept.session);
            !this.secrets && other.is_some_and(|other| !other.secrets && other.worker == this.worker)
        };
        let pushed_out = match ended.iter().position(same) {
            Some(place) => ended.remove(place),
            None if ended.len() >= MOST_ENDED => ended.pop_front(),
            None => None,
        };
        ended.push_back(session.clone());
        if let Some(pushed_out) = pushed_out {
            self.drop_ended(&pushed_out);
        }
    }

    /// Forgets a session at once. If the store knows it, it is told that it is over.
    fn drop_ended(&mut self, session: &SessionId) {
        if self.sessions.remove(session).is_some_and(|kept| kept.written.is_some()) {
            self.lost.insert(session.clone());
        }
    }

    /// Takes a report. Says whether it told anything new; only that is to be written, if it was told here.
    pub fn hear(&mut self, report: Report, here: bool) -> bool {
        let (session, at) = (report.session.clone(), Instant::now());
        let new = match self.reports.get_mut(&session) {
            None => {
                self.reports.insert(session.clone(), Heard { report: Arc::new(report), at });
                true
            }
            Some(heard) => {
                heard.at = at;
                Arc::make_mut(&mut heard.report).merge(report)
            }
        };
        if new && here {
            self.unwritten.insert(session);
        }
        new
    }

    /// Reports that wait to be written.
    pub fn waiting(&self) -> usize {
        self.unwritten.len()
    }

    /// How many groups hold all that is to be written now.
    pub fn groups(&self) -> usize {
        let sessions = self.sessions.values().filter(|kept| kept.news).count();
        sessions.max(self.lost.len()).max(self.unwritten.len()).div_ceil(GROUP)
    }

    /// Whether the other replicas were asked no longer than `age` ago.
    pub fn read_within(&self, age: Duration) -> bool {
        self.read.is_some_and(|read| read.elapsed() <= age)
    }

    /// Takes in what the store held when it was asked, and lets go of what is over. Says whether anything is to be written
    /// again, because the store does not know it.
    pub fn take_in(&mut self, members: Vec<Member>, own: &ReplicaId, asked: Instant) -> bool {
        let all = members.len() < usize::try_from(MOST_MEMBERS).unwrap_or(usize::MAX);
        let mut views: BTreeMap<String, View> = BTreeMap::new();
        let mut open: HashSet<SessionId> = HashSet::new();
        self.sessions.retain(|_, kept| kept.here);
        for Member { session, report, age, ended, orphaned } in members {
            if let Some(report) = report {
                self.hear(report, false);
            }
            let (id, now_open) = (session.id.clone(), ended.is_none());
            if now_open {
                open.insert(id.clone());
            }
            if session.replica != *own {
                let view = views.entry(session.view.clone()).or_insert_with_key(|text| View::read(text));
                let ago = |age| asked.checked_sub(age).unwrap_or(asked);
                let (began, ended, view) = (ago(age), ended.map(ago), view.clone());
                let session = Arc::new(session);
                let (here, written, news) = (false, Some(asked), false);
                let kept = Kept { session, view, began, ended, orphaned, here, written, news };
                self.sessions.insert(id, kept);
            } else if (now_open || orphaned) && !self.sessions.contains_key(&id) {
                self.lost.insert(id);
            }
        }
        let mut again = !self.lost.is_empty();
        for (id, kept) in &mut self.sessions {
            let written_before = kept.written.is_some_and(|written| written < asked);
            if kept.here && kept.ended.is_none() && written_before && all && !open.contains(id) {
                (kept.news, again) = (true, true);
            }
        }
        self.forget();
        self.read = Some(asked);
        again
    }

    fn forget(&mut self) {
        self.sessions.retain(|_, kept| kept.news || !kept.is_over());
        let sessions = &self.sessions;
        self.ended.retain(|_, ended| {
            ended.retain(|session| sessions.contains_key(session));
            !ended.is_empty()
        });
        let unwritten = &self.unwritten;
        self.reports.retain(|session, heard| {
            unwritten.contains(session) || sessions.contains_key(session) || heard.at.elapsed() <= GRACE
        });
    }

    /// What is to be written next, if anything is.
    pub fn news(&self) -> Option<Writing> {
        let mut writing = Writing { news: News::default(), sessions: Vec::new() };
        let News { open, ended, reports } = &mut writing.news;
        for (id, kept) in self.sessions.iter().filter(|(_, kept)| kept.news).take(GROUP) {
            if kept.ended.is_none() || kept.written.is_none() {
                open.push((Session::clone(&kept.session), kept.began.elapsed()));
            }
            if kept.ended.is_some() {
                ended.push(id.clone());
            }
            writing.sessions.push((id.clone(), kept.ended.is_some()));
        }
        ended.extend(self.lost.iter().take(GROUP).cloned());
        let told = self.unwritten.iter().filter_map(|session| self.reports.get(session)).take(GROUP);
        reports.extend(told.map(|heard| Report::clone(&heard.report)));
        (!writing.news.is_empty()).then_some(writing)
    }

    /// It has been written; what has changed since is still to be.
    pub fn written(&mut self, writing: Writing) {
        let now = Instant::now();
        for (id, ended) in writing.sessions {
            if let Some(kept) = self.sessions.get_mut(&id) {
                kept.written = Some(now);
                kept.news = kept.ended.is_some() != ended;
            }
        }
        for id in &writing.news.ended {
            self.lost.remove(id);
        }
        for report in writing.news.reports {
            if self.reports.get(&report.session).is_none_or(|heard| *heard.report == report) {
                self.unwritten.remove(&report.session);
            }
        }
    }

    /// Every worker that is there, or went lately without having said so, or may be there, by worker and session in bytewise order.
    pub fn workers(&self, now: DateTime<Utc>) -> Vec<Worker> {
        let time = |moment: Instant| now - chrono::Duration::from_std(moment.elapsed()).unwrap_or_default();
        let worker = |(id, kept): (&SessionId, &Kept)| {
            let report = self.reports.get(id).map(|heard| Arc::clone(&heard.report));
            // Who says that he leaves and stays is there.
            let left = report.as_ref().is_some_and(|report| report.left);
            let gone = (left && kept.ended.is_some()) || kept.is_over();
            (!gone).then(|| Worker {
                session: Arc::clone(&kept.session),
                view: kept.view.clone(),
                report,
                connected: kept.ended.is_none(),
                orphaned: kept.orphaned,
                began: time(kept.began),
                last_seen: kept.ended.map_or(now, time),
            })
        };
        let mut workers: Vec<Worker> = self.sessions.iter().filter_map(worker).collect();
        workers.sort_by(|one, other| one.place().cmp(&other.place()));
        workers
    }
}

impl Worker {
    /// Where it stands in a list.
    #[must_use]
    pub fn place(&self) -> (&str, &str) {
        (&self.session.worker, &self.session.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Labels};

    fn session(id: &str, secrets: bool) -> Session {
        Session {
            id: SessionId(id.to_owned()),
            replica: ReplicaId("r".into()),
            epoch: Epoch(1),
            subject: "one".into(),
            worker: id.to_owned(),
            labels: Labels::new(),
            client_version: String::new(),
            view: String::new(),
            secrets,
            silent: false,
        }
    }

    /// One token that opened and closed streams in a loop crowded out every other worker.
    #[test]
    fn regression_streams_that_come_and_go_crowd_out_nobody() {
        let mut known = Known::default();
        for number in 0..MOST_ENDED + 50 {
            for secrets in [false, true] {
                let mut session = session(&format!("{number}-{secrets}"), secrets);
                session.worker = "the same".into();
                let id = session.id.clone();
                assert!(known.open(session, View::of(&[])));
                known.end(&id);
            }
        }
        let left = known.workers(DateTime::UNIX_EPOCH);
        assert_eq!(left.len(), MOST_ENDED, "no more of one subject");
        assert_eq!(left.iter().filter(|worker| !worker.session.secrets).count(), 1, "the last one");
    }

    /// It was told of in the log alone that there is no room, and who asked took what there was for all.
    #[test]
    fn regression_a_full_fleet_is_known_to_be_full() {
        let mut known = Known::default();
        let most = usize::try_from(MOST_MEMBERS).unwrap();
        for number in 0..most {
            assert!(!known.is_full());
            assert!(known.open(session(&number.to_string(), false), View::of(&[])));
        }
        assert!(known.is_full() && !known.open(session("one more", false), View::of(&[])));
        known.end(&SessionId("0".into()));
        known.end(&SessionId("1".into()));
        assert!(known.is_full(), "who has just ended is remembered");
    }

    /// A reader of secrets said that it leaves, and stayed: nobody waited for it.
    #[test]
    fn regression_who_says_that_he_leaves_and_stays_is_there() {
        let mut known = Known::default();
        let session = session("s", true);
        let id = session.id.clone();
        known.open(session, View::of(&[]));
        known.hear(Report::leaving(id.clone()), true);
        assert_eq!(known.workers(DateTime::UNIX_EPOCH).len(), 1);
        known.end(&id);
        assert!(known.workers(DateTime::UNIX_EPOCH).is_empty(), "and then gone at once");
    }
}
