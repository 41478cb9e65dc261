//! The fields of an agent's state, and all names that each of them has in pushes and polled pages.

use crate::decode::words;

/// A field with a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentField {
    Name,
    Type,
    Status,
    Running,
    /// It ended, with an unknown result.
    Ended,
    Reason,
    TaskId,
    TaskStartedAt,
    Phase,
    Progress,
    ContextWindowRatio,
    /// The same in percent.
    ContextWindowPercentage,
    /// Tokens in the context window.
    ContextWindowUsed,
    /// The size of the context window, in tokens.
    ContextWindowSize,
    RestartCount,
    LastActivity,
    /// Seconds since the last activity, from senders that don't report its time.
    IdleSeconds,
    EstimatedCompletion,
    Model,
    /// Tokens of a type, by its position in [`crate::model::TokenType::ALL`].
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
pub(super) enum CounterGroup {
    Tokens,
    Requests,
    Reviews,
    ContextWindow,
}

/// What a key of an agent's state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyMeaning {
    Field(AgentField),
    Group(CounterGroup),
    RateLimits,
    Unknown,
}

impl KeyMeaning {
    /// What `key` means in an agent's state.
    #[inline]
    pub(super) fn of(key: &str) -> Self {
        // The documented names first: they are the most frequent, and need no case folding.
        match key {
            "name" => Self::Field(AgentField::Name),
            "type" => Self::Field(AgentField::Type),
            "status" => Self::Field(AgentField::Status),
            "task_id" => Self::Field(AgentField::TaskId),
            "task_started_at" => Self::Field(AgentField::TaskStartedAt),
            "phase" => Self::Field(AgentField::Phase),
            "progress" => Self::Field(AgentField::Progress),
            "restart_count" => Self::Field(AgentField::RestartCount),
            "last_activity" => Self::Field(AgentField::LastActivity),
            "model" => Self::Field(AgentField::Model),
            "tokens" => Self::Group(CounterGroup::Tokens),
            "requests" => Self::Group(CounterGroup::Requests),
            "reviews" => Self::Group(CounterGroup::Reviews),
            "rate_limits" => Self::RateLimits,
            _ => Self::folded(key),
        }
    }

    fn folded(key: &str) -> Self {
        let mut buffer = [0; 48];
        Self::Field(match words::folded(key, &mut buffer).unwrap_or_default() {
            "name" | "agentname" | "agent" => AgentField::Name,
            "type" | "agenttype" => AgentField::Type,
            "status" => AgentField::Status,
            "running" | "isrunning" => AgentField::Running,
            "ended" => AgentField::Ended,
            "reason" | "statusreason" => AgentField::Reason,
            "taskid" | "currenttask" | "currenttaskid" => AgentField::TaskId,
            "taskstartedat" | "taskstarttime" => AgentField::TaskStartedAt,
            "phase" | "currentphase" => AgentField::Phase,
            "progress" | "progresspercent" => AgentField::Progress,
            "contextwindowratio" => AgentField::ContextWindowRatio,
            "contextwindowpercentage" | "contextwindowpercent" | "contextwindowusedpercentage" => {
                AgentField::ContextWindowPercentage
            }
            "contextwindowused" => AgentField::ContextWindowUsed,
            "contextwindowsize" => AgentField::ContextWindowSize,
            "contextwindow" => return Self::Group(CounterGroup::ContextWindow),
            "restartcount" | "restarts" => AgentField::RestartCount,
            "lastactivity" | "lastactivityat" | "lastactivitytime" => AgentField::LastActivity,
            "idleseconds" | "elapsed" => AgentField::IdleSeconds,
            "estimatedcompletion" | "estimatedcompletionat" | "eta" => AgentField::EstimatedCompletion,
            "model" | "modelname" => AgentField::Model,
            "inputtokens" => AgentField::Tokens(0),
            "outputtokens" => AgentField::Tokens(1),
            "cachereadtokens" | "cachereadinputtokens" => AgentField::Tokens(2),
            "cachecreationtokens" | "cachecreationinputtokens" => AgentField::Tokens(3),
            "reasoningtokens" => AgentField::Tokens(4),
            "tokensused" | "totaltokens" => AgentField::TokensUsed,
            "cost" | "costusd" | "totalcost" | "totalcostusd" => AgentField::CostUsd,
            "requestcount" | "totalrequests" => AgentField::Requests,
            "requesterrors" | "errorcount" => AgentField::RequestErrors,
            "ratelimithits" => AgentField::RateLimitHits,
            "retries" | "retrycount" => AgentField::Retries,
            "reviewspassed" => AgentField::ReviewsPassed,
            "reviewsfailed" => AgentField::ReviewsFailed,
            "retryafter" => AgentField::RetryAfter,
            "tokens" => return Self::Group(CounterGroup::Tokens),
            "requests" => return Self::Group(CounterGroup::Requests),
            "reviews" => return Self::Group(CounterGroup::Reviews),
            "ratelimits" => return Self::RateLimits,
            _ => return Self::Unknown,
        })
    }
}

impl CounterGroup {
    /// The field that `key` means within the group.
    #[inline]
    pub(super) fn field(self, key: &str) -> Option<AgentField> {
        match (self, key) {
            (Self::Tokens, "input") => return Some(AgentField::Tokens(0)),
            (Self::Tokens, "output") => return Some(AgentField::Tokens(1)),
            (Self::Tokens, "cache_read") => return Some(AgentField::Tokens(2)),
            (Self::Tokens, "cache_creation") => return Some(AgentField::Tokens(3)),
            (Self::Tokens, "reasoning") => return Some(AgentField::Tokens(4)),
            (Self::Tokens, "cost_usd") => return Some(AgentField::CostUsd),
            (Self::Requests, "total") => return Some(AgentField::Requests),
            (Self::Requests, "errors") => return Some(AgentField::RequestErrors),
            (Self::Requests, "rate_limited") => return Some(AgentField::RateLimitHits),
            (Self::Requests, "retries") => return Some(AgentField::Retries),
            _ => {}
        }
        let mut buffer = [0; 48];
        Some(match (self, words::folded(key, &mut buffer)?) {
            (Self::Tokens, "input") => AgentField::Tokens(0),
            (Self::Tokens, "output") => AgentField::Tokens(1),
            (Self::Tokens, "cacheread") => AgentField::Tokens(2),
            (Self::Tokens, "cachecreation") => AgentField::Tokens(3),
            (Self::Tokens, "reasoning") => AgentField::Tokens(4),
            (Self::Tokens, "total") => AgentField::TokensUsed,
            (Self::Requests, "total") => AgentField::Requests,
            (Self::Requests, "errors") => AgentField::RequestErrors,
            (Self::Requests, "ratelimited") => AgentField::RateLimitHits,
            (Self::Reviews, "passed") => AgentField::ReviewsPassed,
            (Self::Reviews, "failed") => AgentField::ReviewsFailed,
            (Self::ContextWindow, "ratio") => AgentField::ContextWindowRatio,
            (Self::ContextWindow, "usedpercentage" | "percentage" | "percent") => AgentField::ContextWindowPercentage,
            (Self::ContextWindow, "used") => AgentField::ContextWindowUsed,
            (Self::ContextWindow, "size") => AgentField::ContextWindowSize,
            // The long names are accepted inside a group as well: `tokens.inputTokens`, `requests.retryCount`.
            (_, _) => match KeyMeaning::of(key) {
                KeyMeaning::Field(field) if field.group() == Some(self) => field,
                _ => return None,
            },
        })
    }

    /// The field that a single number in place of the group means.
    pub(super) fn total(self) -> Option<AgentField> {
        match self {
            Self::Tokens => Some(AgentField::TokensUsed),
            Self::Requests => Some(AgentField::Requests),
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

impl AgentField {
    /// The names that a configuration may set a path for, in addition to `project`.
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

    /// Whether its value is text, rather than a number, a time or a flag.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::Type | Self::Status | Self::Reason | Self::TaskId | Self::Phase | Self::Model)
    }

    fn group(self) -> Option<CounterGroup> {
        match self {
            Self::Tokens(_) | Self::TokensUsed | Self::CostUsd => Some(CounterGroup::Tokens),
            Self::Requests | Self::RequestErrors | Self::RateLimitHits | Self::Retries => Some(CounterGroup::Requests),
            Self::ReviewsPassed | Self::ReviewsFailed => Some(CounterGroup::Reviews),
            Self::ContextWindowRatio
            | Self::ContextWindowPercentage
            | Self::ContextWindowUsed
            | Self::ContextWindowSize => Some(CounterGroup::ContextWindow),
            _ => None,
        }
    }

    /// Its name in an error.
    pub(super) fn as_str(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, field)| *field == self);
        named.map_or("retry_after", |(name, _)| name)
    }
}
