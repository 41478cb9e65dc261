//! The shorthand variables, which configure a Slack and an e-mail receiver without a configuration file.
//!
//! They are used only when no receiver is configured otherwise.

use super::environment::{
    ALERT_EMAIL_TO, Environment, SLACK_WEBHOOK_URL, SLACK_WEBHOOK_URL_FILE, SMTP_HOST, SMTP_PASSWORD,
    SMTP_PASSWORD_FILE, SMTP_PORT, SMTP_USER,
};
use crate::model::Problem;
use crate::notify::config::{EmailConfig, Kind, ReceiverConfig, SlackConfig, SmtpConfig, SmtpTls, validate};
use crate::secret::Secret;

/// The ports of mail submission (RFC 6409) and of submission with implicit TLS (RFC 8314).
const SUBMISSION: u16 = 587;
const SUBMISSIONS: u16 = 465;

/// The receivers `slack` and `email` if their variables are set, and the problems of the variables.
pub(super) fn receivers(env: &Environment) -> (Vec<ReceiverConfig>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut receivers: Vec<ReceiverConfig> = slack(env).into_iter().collect();
    match email(env) {
        Ok(email) => receivers.extend(email),
        Err(problem) => problems.push(problem),
    }
    for problem in validate(&receivers) {
        let key = problem.path.split_once("].").map_or("", |(_, key)| key);
        problems.push(Problem::in_variable(variable_of(key, env), problem.message));
    }
    (receivers, problems)
}

/// The variable that sets `key` of a receiver.
fn variable_of(key: &str, env: &Environment) -> &'static str {
    let given = |name: &'static str, or: &'static str| if env.get(name).is_some() { name } else { or };
    match key {
        key if key.starts_with("slack") => given(SLACK_WEBHOOK_URL, SLACK_WEBHOOK_URL_FILE),
        key if key.starts_with("email.to") => ALERT_EMAIL_TO,
        "email.from" | "email.smtp.username" => given(SMTP_USER, SMTP_HOST),
        key if key.starts_with("email.smtp.password") => given(SMTP_PASSWORD_FILE, SMTP_PASSWORD),
        "email.smtp.port" => given(SMTP_PORT, SMTP_HOST),
        _ => SMTP_HOST,
    }
}

fn slack(env: &Environment) -> Option<ReceiverConfig> {
    let webhook_url = env.get(SLACK_WEBHOOK_URL).map(Secret::new);
    let webhook_url_file = env.get(SLACK_WEBHOOK_URL_FILE).map(Into::into);
    if webhook_url.is_none() && webhook_url_file.is_none() {
        return None;
    }
    let slack = SlackConfig { webhook_url, webhook_url_file, ..SlackConfig::default() };
    Some(ReceiverConfig::new("slack", Kind::Slack(slack)))
}

fn email(env: &Environment) -> Result<Option<ReceiverConfig>, Problem> {
    let Some(people) = env.get(ALERT_EMAIL_TO) else { return Ok(None) };
    let Some(host) = env.get(SMTP_HOST) else {
        return Err(Problem::in_variable(ALERT_EMAIL_TO, "requires a mail server; set SMTP_HOST too"));
    };
    let to: Vec<String> = people.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    if let Some(bad) = to.iter().find(|one| one.parse::<lettre::Address>().is_err()) {
        return Err(Problem::in_variable(
            ALERT_EMAIL_TO,
            format!("`{bad}` is not a mail address; use ops@example.com,oncall@example.com, for example"),
        ));
    }
    if to.is_empty() {
        return Err(Problem::in_variable(
            ALERT_EMAIL_TO,
            "no address; use ops@example.com,oncall@example.com, for example",
        ));
    }
    let port = match env.get(SMTP_PORT) {
        None => SUBMISSION,
        Some(text) => match text.trim().parse() {
            Ok(port) if port > 0 => port,
            _ => {
                return Err(Problem::in_variable(
                    SMTP_PORT,
                    format!("`{text}` is not a port; use a number such as 587"),
                ));
            }
        },
    };
    let username = env.get(SMTP_USER);
    let from = match username.filter(|user| user.parse::<lettre::Address>().is_ok()) {
        Some(address) => address.to_owned(),
        None => format!("lookout@{host}"),
    };
    let smtp = SmtpConfig {
        host: host.to_owned(),
        port: Some(port),
        tls: Some(if port == SUBMISSIONS { SmtpTls::Implicit } else { SmtpTls::Starttls }),
        username: username.map(str::to_owned),
        password: env.get(SMTP_PASSWORD).map(Secret::new),
        password_file: env.get(SMTP_PASSWORD_FILE).map(Into::into),
        ca_file: None,
    };
    Ok(Some(ReceiverConfig::new("email", Kind::Email(EmailConfig { to, from, smtp }))))
}
