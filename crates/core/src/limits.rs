//! Every bound of the realm, in one place. A bound that is reached gives a clear rejection;
//! nothing is dropped in silence. Sizes are bytes, times milliseconds, unless the name says so.

/// Accounts a realm holds. About 200 bytes of memory each.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// One part in so many of the accounts that are left may be opened in one day: shared.
pub const ACCOUNTS_A_DAY: usize = 16;
/// Accounts of which the sysop says something.
pub const ACCOUNTS_LIMITED_MAX: usize = 10_000;
/// Invitations that nobody has used.
pub const INVITES_MAX: usize = 10_000;
/// Keys of one account.
pub const KEYS_PER_ACCOUNT_MAX: usize = 8;
/// Open intents of a realm, queued and running together: shared.
pub const OPEN_INTENTS_MAX: usize = 100_000;
/// Enrolled workers: shared.
pub const WORKERS_MAX: usize = 20_000;
/// Owners whose voided tokens are forgotten by one fact: it adds one.
pub const VOID_FORGOTTEN_AT_ONCE: usize = 4;
/// Life of an enrolment token.
pub const TOKEN_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// Offers of one worker.
pub const OFFERS_PER_WORKER_MAX: usize = 32;
/// Slots of one offer.
pub const SLOTS_PER_OFFER_MAX: u32 = 1_024;
/// Leases named in one worker message.
pub const LEASES_PER_MESSAGE_MAX: usize = 4_096;

/// A lease lasts this long without a renewal; a dead worker is found within it.
pub const LEASE_MS: u64 = 3_000;
/// How often a worker renews and says that it lives: three chances a lease.
pub const HEARTBEAT_MS: u64 = 900;
/// A session silent for this long is over. Below the lease, so the loss is known first.
pub const SESSION_SILENCE_MS: u64 = 2_800;
/// A worker that gives neither piece nor end of an attempt for this long, and for as many of its
/// estimates, has failed it as far as its standing goes; the attempt goes on.
pub const ATTEMPT_SILENCE_MS: u64 = 30_000;
pub const ATTEMPT_SILENCE_ESTIMATES: u64 = 4;
/// Two rounds of a node that are further apart: the realm itself was away (stopped, a machine that
/// slept, a disk that stalled), and nobody was silent. Less is within what a lease allows for.
pub const PAUSE_MS: u64 = 500;
/// A node has a round so often at least, whether or not anything is to be done: it knows of a pause
/// by the round that it missed.
pub const ROUND_MS: u64 = 200;
/// After a pause no timer judges anybody for so long: what waits in sockets is taken before.
pub const PAUSE_SETTLE_MS: u64 = 500;
/// The hold's own expiry comes this much after deadline and lease: later than every other timer.
pub const HOLD_GRACE_MS: u64 = 60_000;
/// Without progress for this long the Event Processor repeats its last message for an intent.
pub const STALL_MS: u64 = 5_000;
/// The edge has this long to answer a `Stop` before it is asked again.
pub const STOP_REPEAT_MS: u64 = 1_000;
/// An idempotency key stays in the state for this long after its intent's end.
pub const IDEMPOTENCY_MS: u64 = 60_000;
/// Idempotency keys held in the state, those of open intents among them: shared. About 250 bytes of
/// memory each; one account of guests may so begin some 370 intents with keys a second.
pub const IDEMPOTENCY_MAX: usize = 400_000;
/// Ends that the accountant tells again to whoever repeats a request, whatever their age: more
/// than a second of them at full load, while messages are repeated after half of one. They are
/// most of what a realm holds right after a restart.
pub const ENDS_MAX: usize = 32_768;
/// Of them one fact forgets so many at most: it adds one. A part of the fold, as the two above are: a
/// log is folded by the limits of the program that reads it, and none of them decides of money.
pub const ENDS_FORGOTTEN_AT_ONCE: usize = 4;

/// Workers that may fail one intent.
pub const ATTEMPTS_MAX: usize = 3;
/// Times one intent is given out in all, those included whose worker was lost.
pub const DISPATCHES_MAX: u32 = 8;
/// What is lost twice waits so long before it is given out again, and twice as long each time more.
pub const LOSS_PAUSE_MS: u64 = 1_000;
/// Retries are at most this share of an account's dispatches, in per cent, once it has had
/// [`RETRIES_FREE`] of them.
pub const RETRY_PER_CENT_MAX: u64 = 10;
/// Retries an account may always have, so that a small account is not refused its first; and all
/// accounts of one branch, since accounts are free to make.
pub const RETRIES_FREE: u64 = 10;
pub const RETRIES_FREE_PER_BRANCH: u64 = 40;
/// Failed attempts whose branch has had its share that a free slot looks past.
pub const RETRY_LOOKS_MAX: u32 = 8;
/// What was before so many dispatches counts half.
pub const RETRY_DISPATCHES: u64 = 1_000;

/// Queued intents of one flow (realm, account, class).
pub const LEAF_ITEMS_MAX: usize = 4_096;
/// Payload bytes that the queued intents of one flow stand for.
pub const LEAF_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Queued intents of one pool: as many as there may be, whose share is that of open intents.
pub const POOL_ITEMS_MAX: usize = OPEN_INTENTS_MAX;
/// Payload bytes that the queued intents of one pool stand for.
pub const POOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Idle flows that one command forgets. Each command leaves fewer behind.
pub const FLOWS_FORGOTTEN_AT_ONCE: u32 = 8;
/// Nodes of the flow tree.
pub const FLOWS_MAX: usize = 1_000_000;

/// Slots of a kind that a worker which is not the realm's own has earned from the start.
pub const EARNED_FIRST: u32 = 2;
/// Kinds in which one worker's earnings and proofs are remembered; the least of them goes first. Facts
/// are folded by it, so another number is another fold of the same log: raise it, and what an older
/// log had forgotten is there again; lower it, and more is forgotten. Both are a newcomer's standing.
pub const STANDINGS_PER_WORKER_MAX: usize = 64;
/// A worker that fails too much is out of that kind for so long, and twice as long each time more.
pub const EJECTED_MS: u64 = 30_000;
pub const EJECTED_MAX_MS: u64 = 60 * 60 * 1000;
/// After so many good results in a row the next ejection is the first again.
pub const EJECTIONS_FORGIVEN_AFTER: u32 = 20;
/// Right answers in a row to the realm's own test intents that prove a worker, and on how many days.
pub const CANARIES_RIGHT: u32 = 20;
pub const CANARY_DAYS: u32 = 2;
/// A worker of somebody else is forgotten if it was not here on so many days on which the realm ran.
pub const WORKER_UNSEEN_DAYS: u32 = 30;
pub const WORKERS_FORGOTTEN_AT_ONCE: usize = 64;
/// Of those that are here when a day begins, so many are looked at in one go.
pub const WORKERS_SEEN_AT_ONCE: usize = 256;
/// A sysop's word for a worker.
pub const VOUCH_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// It lapses at this many ejections.
pub const VOUCH_EJECTIONS: u32 = 2;

/// Messages to one other node that wait for their acknowledgement.
pub const OUTBOX_MAX: usize = 65_536;
/// A message between nodes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Outbox messages are sent again after this long without an acknowledgement.
pub const OUTBOX_REPEAT_MS: u64 = 500;

/// The longest deadline any manifest may allow.
pub const DEADLINE_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// A pool that no worker serves any more keeps its queue for this long, then fails it.
pub const UNSERVED_MS: u64 = 30_000;
/// Intents of such a pool that fail in one go.
pub const UNSERVED_AT_ONCE_MAX: usize = 256;
/// Intents of its owner's that a freed slot looks at for one that its worker did not fail.
pub const OWN_LOOKS_MAX: usize = 16;
/// Kinds that no worker links any more share their flows' service for so long, or longer where it
/// takes more looks than so many a millisecond to find that out: about a hundredth of a node's time.
pub const DOMAINS_SPLIT_MS: u64 = 1_000;
pub const DOMAINS_SPLIT_LOOKS_PER_MS: u64 = 10;
/// What an intent is thought to take before any of its kind was measured, in slot-milliseconds.
pub const FIRST_ESTIMATE_MS: u64 = 1_000;
/// Kinds of work, by size, whose duration is remembered; beyond it the one that was measured longest ago
/// gives way.
pub const ESTIMATES_MAX: usize = 4_096;
/// Accounts and branches whose retries are counted; beyond it the one that was served longest ago is
/// counted anew.
pub const RETRY_COUNTS_MAX: usize = 100_000;
/// How much pools served by different slots remember of each other's service, in slot-milliseconds
/// of a flow of weight 1.
pub const QUEUE_HORIZON_MS: u64 = 600_000;
/// Those who were refused are told to come back within this time at the latest.
pub const RETURN_MAX_MS: u64 = 60 * 60 * 1000;
/// Times that were told and not kept yet: of a kind, and of one branch there.
pub const RETURNS_MAX: usize = 65_536;
pub const RETURNS_PER_BRANCH_MAX: usize = 1_024;
/// One in so many parts of what a kind serves is promised to those who come back.
pub const RETURNS_SHARE: u64 = 4;
/// Who comes so much earlier or later than told has kept the time.
pub const RETURN_EARLY_MS: u64 = 250;
pub const RETURN_LATE_MS: u64 = 10_000;
/// A kind's workers that are looked at for what else their slots serve, when a wait is told: those of
/// them that meet the demand, and all that are looked at for it.
pub const BESIDE_WORKERS_MAX: usize = 8;
pub const BESIDE_LOOKS_MAX: usize = 32;
/// Kinds of which it is then asked what they have queued: as many as one worker may offer.
pub const BESIDE_KINDS_MAX: usize = 32;
