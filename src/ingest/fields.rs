//! The fields of an agent's state: every name that each goes by.
//!
//! Owns the vocabulary that pushes and polled pages share. Refuses to know the shape of the page around it.

use crate::decode::words;

/// A field with a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    Type,
    Status,
    Running,
    /// It ended, and how is not known.
    Ended,
    Reason,
    TaskId,
    TaskStartedAt,
    Phase,
    Progress,
    ContextWindowRatio,
    /// The same in percent.
    ContextWindowPercentage,
    /// Tokens that are in the context window.
    ContextWindowUsed,
    /// Tokens that fit into it.
    ContextWindowSize,
    RestartCount,
    LastActivity,
    /// Seconds since the last activity, for senders that know no more.
    IdleSeconds,
    EstimatedCompletion,
    Model,
    /// By its place in [`crate::model::TokenType::ALL`].
    Tokens(usize),
    /// All tokens in one number.
    TokensUsed,
    CostUsd,
    Requests,
    RequestErrors,
    RateLimitHits,
    Retries,
    ReviewsPassed,
    ReviewsFailed,
    RetryAfter,
}

/// An object of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Tokens,
    Requests,
    Reviews,
    ContextWindow,
}

/// What a key of an agent's state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Field(Field),
    Group(Group),
    RateLimits,
    Unknown,
}

impl Member {
    /// What `key` means in an agent's state.
    #[inline]
    pub(super) fn of(key: &str) -> Self {
        // The names of our own contract first: they are most of what is read, and need no folding.
        match key {
            "name" => Self::Field(Field::Name),
            "type" => Self::Field(Field::Type),
            "status" => Self::Field(Field::Status),
            "task_id" => Self::Field(Field::TaskId),
            "task_started_at" => Self::Field(Field::TaskStartedAt),
            "phase" => Self::Field(Field::Phase),
            "progress" => Self::Field(Field::Progress),
            "restart_count" => Self::Field(Field::RestartCount),
            "last_activity" => Self::Field(Field::LastActivity),
            "model" => Self::Field(Field::Model),
            "tokens" => Self::Group(Group::Tokens),
            "requests" => Self::Group(Group::Requests),
            "reviews" => Self::Group(Group::Reviews),
            "rate_limits" => Self::RateLimits,
            _ => Self::folded(key),
        }
    }

    fn folded(key: &str) -> Self {
        let mut buffer = [0; 48];
        Self::Field(match words::folded(key, &mut buffer).unwrap_or_default() {
            "name" | "agentname" | "agent" => Field::Name,
            "type" | "agenttype" => Field::Type,
            "status" => Field::Status,
            "running" | "isrunning" => Field::Running,
            "ended" => Field::Ended,
            "reason" | "statusreason" => Field::Reason,
            "taskid" | "currenttask" | "currenttaskid" => Field::TaskId,
            "taskstartedat" | "taskstarttime" => Field::TaskStartedAt,
            "phase" | "currentphase" => Field::Phase,
            "progress" | "progresspercent" => Field::Progress,
            "contextwindowratio" => Field::ContextWindowRatio,
            "contextwindowpercentage" | "contextwindowpercent" | "contextwindowusedpercentage" => {
                Field::ContextWindowPercentage
            }
            "contextwindowused" => Field::ContextWindowUsed,
            "contextwindowsize" => Field::ContextWindowSize,
            "contextwindow" => return Self::Group(Group::ContextWindow),
            "restartcount" | "restarts" => Field::RestartCount,
            "lastactivity" | "lastactivityat" | "lastactivitytime" => Field::LastActivity,
            "idleseconds" | "elapsed" => Field::IdleSeconds,
            "estimatedcompletion" | "estimatedcompletionat" | "eta" => Field::EstimatedCompletion,
            "model" | "modelname" => Field::Model,
            "inputtokens" => Field::Tokens(0),
            "outputtokens" => Field::Tokens(1),
            "cachereadtokens" | "cachereadinputtokens" => Field::Tokens(2),
            "cachecreationtokens" | "cachecreationinputtokens" => Field::Tokens(3),
            "reasoningtokens" => Field::Tokens(4),
            "tokensused" | "totaltokens" => Field::TokensUsed,
            "cost" | "costusd" | "totalcost" | "totalcostusd" => Field::CostUsd,
            "requestcount" | "totalrequests" => Field::Requests,
            "requesterrors" | "errorcount" => Field::RequestErrors,
            "ratelimithits" => Field::RateLimitHits,
            "retries" | "retrycount" => Field::Retries,
            "reviewspassed" => Field::ReviewsPassed,
            "reviewsfailed" => Field::ReviewsFailed,
            "retryafter" => Field::RetryAfter,
            "tokens" => return Self::Group(Group::Tokens),
            "requests" => return Self::Group(Group::Requests),
            "reviews" => return Self::Group(Group::Reviews),
            "ratelimits" => return Self::RateLimits,
            _ => return Self::Unknown,
        })
    }
}

impl Group {
    /// The field that `key` means within the group.
    #[inline]
    pub(super) fn field(self, key: &str) -> Option<Field> {
        match (self, key) {
            (Self::Tokens, "input") => return Some(Field::Tokens(0)),
            (Self::Tokens, "output") => return Some(Field::Tokens(1)),
            (Self::Tokens, "cache_read") => return Some(Field::Tokens(2)),
            (Self::Tokens, "cache_creation") => return Some(Field::Tokens(3)),
            (Self::Tokens, "reasoning") => return Some(Field::Tokens(4)),
            (Self::Tokens, "cost_usd") => return Some(Field::CostUsd),
            (Self::Requests, "total") => return Some(Field::Requests),
            (Self::Requests, "errors") => return Some(Field::RequestErrors),
            (Self::Requests, "rate_limited") => return Some(Field::RateLimitHits),
            (Self::Requests, "retries") => return Some(Field::Retries),
            _ => {}
        }
        let mut buffer = [0; 48];
        Some(match (self, words::folded(key, &mut buffer)?) {
            (Self::Tokens, "input") => Field::Tokens(0),
            (Self::Tokens, "output") => Field::Tokens(1),
            (Self::Tokens, "cacheread") => Field::Tokens(2),
            (Self::Tokens, "cachecreation") => Field::Tokens(3),
            (Self::Tokens, "reasoning") => Field::Tokens(4),
            (Self::Tokens, "total") => Field::TokensUsed,
            (Self::Requests, "total") => Field::Requests,
            (Self::Requests, "errors") => Field::RequestErrors,
            (Self::Requests, "ratelimited") => Field::RateLimitHits,
            (Self::Reviews, "passed") => Field::ReviewsPassed,
            (Self::Reviews, "failed") => Field::ReviewsFailed,
            (Self::ContextWindow, "ratio") => Field::ContextWindowRatio,
            (Self::ContextWindow, "usedpercentage" | "percentage" | "percent") => Field::ContextWindowPercentage,
            (Self::ContextWindow, "used") => Field::ContextWindowUsed,
            (Self::ContextWindow, "size") => Field::ContextWindowSize,
            // The long names are understood inside as well as outside: `tokens.inputTokens`, `requests.retryCount`.
            (_, _) => match Member::of(key) {
                Member::Field(field) if field.group() == Some(self) => field,
                _ => return None,
            },
        })
    }

    /// The field that a single number in place of the group means.
    pub(super) fn total(self) -> Option<Field> {
        match self {
            Self::Tokens => Some(Field::TokensUsed),
            Self::Requests => Some(Field::Requests),
            Self::Reviews | Self::ContextWindow => None,
        }
    }

    /// The group's own name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Reviews => "reviews",
            Self::ContextWindow => "context_window",
        }
    }
}

impl Field {
    /// Every name that a configuration may give a path for, beside `project`.
    pub(super) const NAMES: [(&'static str, Self); 33] = [
        ("name", Self::Name),
        ("type", Self::Type),
        ("status", Self::Status),
        ("running", Self::Running),
        ("ended", Self::Ended),
        ("reason", Self::Reason),
        ("task_id", Self::TaskId),
        ("task_started_at", Self::TaskStartedAt),
        ("phase", Self::Phase),
        ("progress", Self::Progress),
        ("context_window_ratio", Self::ContextWindowRatio),
        ("context_window.used_percentage", Self::ContextWindowPercentage),
        ("context_window.used", Self::ContextWindowUsed),
        ("context_window.size", Self::ContextWindowSize),
        ("restart_count", Self::RestartCount),
        ("last_activity", Self::LastActivity),
        ("idle_seconds", Self::IdleSeconds),
        ("elapsed", Self::IdleSeconds),
        ("estimated_completion", Self::EstimatedCompletion),
        ("model", Self::Model),
        ("tokens.input", Self::Tokens(0)),
        ("tokens.output", Self::Tokens(1)),
        ("tokens.cache_read", Self::Tokens(2)),
        ("tokens.cache_creation", Self::Tokens(3)),
        ("tokens.reasoning", Self::Tokens(4)),
        ("tokens.total", Self::TokensUsed),
        ("cost_usd", Self::CostUsd),
        ("requests.total", Self::Requests),
        ("requests.errors", Self::RequestErrors),
        ("requests.rate_limited", Self::RateLimitHits),
        ("requests.retries", Self::Retries),
        ("reviews.passed", Self::ReviewsPassed),
        ("reviews.failed", Self::ReviewsFailed),
    ];

    /// Whether it holds words rather than a number, a time or a flag.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::Type | Self::Status | Self::Reason | Self::TaskId | Self::Phase | Self::Model)
    }

    fn group(self) -> Option<Group> {
        match self {
            Self::Tokens(_) | Self::TokensUsed | Self::CostUsd => Some(Group::Tokens),
            Self::Requests | Self::RequestErrors | Self::RateLimitHits | Self::Retries => Some(Group::Requests),
            Self::ReviewsPassed | Self::ReviewsFailed => Some(Group::Reviews),
            Self::ContextWindowRatio
            | Self::ContextWindowPercentage
            | Self::ContextWindowUsed
            | Self::ContextWindowSize => Some(Group::ContextWindow),
            _ => None,
        }
    }

    /// Its name in an error.
    pub(super) fn as_str(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, field)| *field == self);
        named.map_or("retry_after", |(name, _)| name)
    }
}
