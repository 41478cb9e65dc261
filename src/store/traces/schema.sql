-- Names that repeat: of projects, agents, models, providers, platforms, tools and runs.
CREATE TABLE names(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Runs, a row each. Times are Unix milliseconds; status and source are numbers, see model/run.rs.
CREATE TABLE runs(
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    project INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    agent_type INTEGER NOT NULL,
    name INTEGER NOT NULL,
    status INTEGER NOT NULL,
    source INTEGER NOT NULL,
    is_rooted INTEGER NOT NULL,
    is_sampled_out INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    last_at INTEGER NOT NULL,
    duration_ms INTEGER,
    parent BLOB,
    awaited BLOB,
    task TEXT,
    session TEXT,
    platform INTEGER,
    model INTEGER,
    provider INTEGER,
    error TEXT,
    cost_usd REAL,
    -- Ids in `names` of all models, providers and tools of the run, each between commas.
    words TEXT NOT NULL,
    -- Parts, totals and groups; see traces/row.rs.
    detail BLOB NOT NULL
);
CREATE INDEX runs_by_agent ON runs(project, agent, started_at);
CREATE INDEX runs_by_time ON runs(started_at);
CREATE INDEX runs_by_session ON runs(session) WHERE session IS NOT NULL;
CREATE INDEX runs_by_task ON runs(task) WHERE task IS NOT NULL;
CREATE INDEX runs_by_awaited ON runs(awaited) WHERE awaited IS NOT NULL;
CREATE INDEX runs_by_parent ON runs(parent) WHERE parent IS NOT NULL;

-- Traces whose id is not that of the run that they are part of.
CREATE TABLE parts(trace BLOB NOT NULL, run BLOB NOT NULL, PRIMARY KEY(trace, run)) WITHOUT ROWID;

-- Spans in compressed blocks, see traces/block.rs. The key of a block is the key of its trace, shifted by 20 bits, and
-- its number in the trace, so that the blocks of a trace are next to each other.
CREATE TABLE traces(key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, blocks INTEGER NOT NULL, spans INTEGER NOT NULL, last_at INTEGER NOT NULL);
CREATE INDEX traces_by_time ON traces(last_at);
CREATE TABLE blocks(key INTEGER PRIMARY KEY, block BLOB NOT NULL);

-- Sums by agent and hour; kind is the number of a StatGroup.
CREATE TABLE stats(
    project INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    name INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    failed_runs INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    failed_calls INTEGER NOT NULL,
    tools INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_creation INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL,
    fallbacks INTEGER NOT NULL,
    waited_ms INTEGER NOT NULL,
    run_durations BLOB NOT NULL,
    call_durations BLOB NOT NULL,
    PRIMARY KEY(project, agent, hour, kind, name)
) WITHOUT ROWID;
CREATE INDEX stats_by_hour ON stats(hour);

-- Agents that registered or were seen.
CREATE TABLE agents(
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    external_id TEXT,
    config TEXT,
    monitoring_enabled INTEGER NOT NULL DEFAULT 1,
    status TEXT NOT NULL DEFAULT 'active',
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    UNIQUE(project, name)
) WITHOUT ROWID;
