//! Detects rate limits in the text of errors, reasons and output.
//!
//! Limits of a run or of its machine, such as its context or its memory, are not rate limits: waiting does not end them.

/// Whether `text`, an error or a reason, is about a provider's limit that ends by itself.
pub fn is_about_limit(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // gRPC also reports messages that are too large and exhausted memory as an exhausted resource.
    let is_of_machine = ["out of memory", "larger than", "out of space"].iter().any(|words| text.contains(words));
    let ends = |letter: char| matches!(letter, ':' | ';' | ',' | '|' | '(' | ')' | '·' | '∙' | '!' | '\n');
    text.split(ends).flat_map(|clause| clause.split(". ")).any(|clause| {
        let letters = |letter: char| !letter.is_alphanumeric();
        let words: Vec<&str> = clause.split(letters).filter(|word| !word.is_empty()).collect();
        is_refusal(&words, is_of_machine) || is_quota_used_up(&words) || is_limit_reached(&words)
    })
}

/// Whether a clause contains the name of a rate-limit error as protocols and clients use it.
fn is_refusal(words: &[&str], is_of_machine: bool) -> bool {
    const NAMES: [&str; 5] = ["ratelimit", "usagelimit", "quotaexceeded", "toomanyrequests", "throttlingexception"];
    // "Rate limiter" is a program.
    let is_name = |word: &&str| NAMES.iter().any(|name| word.contains(name)) && !singular(word).ends_with("limiter");
    let contains = |phrase: &[&str]| words.windows(phrase.len()).any(|some| some == phrase);
    let is_rate = words
        .windows(2)
        .any(|pair| matches!(pair, ["rate", limit] if matches!(*limit, "limit" | "limits" | "limited" | "limiting")));
    words.iter().any(is_name)
        || is_rate
        || words.contains(&"429")
        || contains(&["too", "many", "requests"])
        || contains(&["out", "of", "extra", "usage"])
        || contains(&["out", "of", "usage"])
        || contains(&["exhausted", "your", "capacity"])
        || contains(&["resource", "exhausted"]) && !is_of_machine
}

/// Whether a clause is about an exhausted quota, except a disk quota.
fn is_quota_used_up(words: &[&str]) -> bool {
    const USED_UP: [&str; 6] = ["exceeded", "exhausted", "insufficient", "used", "reached", "hit"];
    let is_used_up = words.iter().any(|word| USED_UP.contains(word)) || words.windows(2).any(|it| it == ["out", "of"]);
    let mut before = std::iter::once("").chain(words.iter().copied());
    is_used_up && words.iter().any(|word| before.next().is_some_and(|of| singular(word) == "quota" && !is_of_run(of)))
}

/// Whether a clause is about a reached usage limit: `5-hour limit reached`, `hit your weekly limit`.
fn is_limit_reached(words: &[&str]) -> bool {
    let mut limits = words.iter().enumerate().filter(|(_, word)| singular(word) == "limit").map(|(at, _)| at);
    limits.any(|at| {
        let (before, after) = (words.get(at.saturating_sub(7)..at).unwrap_or_default(), words.get(at + 1));
        let near = |count: usize| before.get(before.len().saturating_sub(count)..).unwrap_or_default();
        let is_usage = before.last() == Some(&"usage") && !near(2).iter().any(|word| is_of_run(word));
        let is_reached = after == Some(&"reached") && !is_of_other(near(4));
        let hit = before.windows(2).rposition(|pair| {
            matches!(pair, [verb, "your"] if matches!(*verb, "hit" | "reached" | "exceed" | "exceeded" | "exhausted"))
        });
        let is_hit = hit.and_then(|hit| before.get(hit + 2..)).is_some_and(|kind| !is_of_other(kind));
        is_usage || is_reached || is_hit
    })
}

/// Whether the words before `limit` make it a limit of a run. Token limits are the provider's if they are per time.
fn is_of_other(words: &[&str]) -> bool {
    const TIMES: [&str; 9] = ["daily", "day", "hourly", "hour", "minute", "weekly", "week", "monthly", "month"];
    let is_of_time = words.iter().any(|word| TIMES.contains(word));
    words.iter().any(|word| is_of_run(word) || singular(word) == "token" && !is_of_time)
}

/// Whether a limit with this name is one of a run or of its machine.
fn is_of_run(word: &str) -> bool {
    const KINDS: [&str; 31] = [
        "context",
        "window",
        "time",
        "timeout",
        "turn",
        "iteration",
        "step",
        "recursion",
        "depth",
        "retry",
        "retrie",
        "attempt",
        "size",
        "file",
        "length",
        "output",
        "input",
        "memory",
        "ram",
        "cpu",
        "gpu",
        "disk",
        "storage",
        "inode",
        "line",
        "character",
        "thread",
        "proces",
        "connection",
        "stack",
        "upload",
    ];
    KINDS.contains(&singular(word))
}

fn singular(word: &str) -> &str {
    word.trim_end_matches('s')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limits_are_detected_in_text() {
        for text in [
            "rate limit",
            "failed by rate limit",
            "Rate-limited by anthropic",
            "429, rate limit",
            "RateLimitError: Error code: 429",
            "HTTP 429",
            "You've hit your weekly limit · resets Dec 3, 7am (Europe/Zurich)",
            "You've hit your usage limit.",
            "5-hour limit reached ∙ resets 3:30pm",
            "429 RESOURCE_EXHAUSTED",
            "RESOURCE_EXHAUSTED",
            "status: RESOURCE_EXHAUSTED, retry in 34s",
            "You're out of extra usage · resets 3pm (Europe/Berlin)",
            "You’re out of usage",
            "Claude AI usage limit reached|1795273200",
            "Opus weekly limit reached ∙ resets Dec 3",
            "You have hit your Max plan limit",
            "you've hit your gpt-5.5 limit",
            "You've hit your daily token limit",
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
            "usage_limit_reached",
            "UsageLimitReached",
            "Quota exceeded for quota metric 'Requests', retry in 5m",
            "QuotaExceeded",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
            "You have exhausted your daily quota on this model.",
            "You have exhausted your capacity on this model. Your quota will reset after 3h15m20s.",
            "429, quota used up",
            "rate_limit_error",
            "exceeded max retries due to rate limiting",
            "ThrottlingException: Too Many Requests",
        ] {
            assert!(is_about_limit(text), "{text}");
        }
        for text in [
            "",
            "exit code 137",
            "out of memory",
            "tests of the rate limiter failed",
            "RateLimiter panicked",
            "line 1429",
            "time limit",
            "time limit reached",
            "30-minute time limit reached",
            "Context limit reached · /compact or /clear to continue",
            "You've hit your context limit",
            "hit your max turns limit",
            "max turns limit reached",
            "file size limit reached",
            "You have reached your output token limit",
            "recursion limit reached",
            "retry limit reached",
            "memory usage limit exceeded",
            "Disk quota exceeded (os error 122)",
            "RESOURCE_EXHAUSTED: grpc: received message larger than max",
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
            "the page of quotas does not render",
            "hit your breakpoint, no limit was found",
        ] {
            assert!(!is_about_limit(text), "{text}");
        }
    }
}
