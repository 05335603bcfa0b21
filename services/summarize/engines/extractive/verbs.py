"""Word lists with which commitments are told from other talk; English."""

from services.summarize.engines.extractive.wordlist import word_set

# What people at work (or at home) agree to do: evidence enough that "she will ..." is a task and not a prediction.
ERRANDS = word_set(
    """
    add announce approach approve arrange ask assign attach book bring build buy call cancel check clean collect
    compile complete confirm contact coordinate copy create debug deliver deploy design distribute document
    draft drop email e-mail escalate estimate file finalise finalize find finish fix follow format forward get
    hand handle hire implement inform install interview investigate invite invoice join lead look mail make
    measure merge message migrate notify order organise organize pass pay phone pick ping plan post prepare
    present print process produce propose provide publish push pull purchase put raise reach read refactor
    refund register release remind remove rename renew rent repair replace reply report request rerun research
    reschedule reserve resolve respond return review revise ring roll run save scan schedule send set share ship
    sign sketch sort speak start submit summarize summarise survey switch take talk tell test text track train
    transfer translate try tweak update upgrade upload verify visit work write
    """
)

# Verbs of being, knowing and chatting: "I'll be honest", "we need to understand", "I have to say".
NOT_ACTS = word_set(
    """
    accept admit agree always appear become believe belong bet care confess cost cry deserve desire die doubt
    end enjoy ever exist expect face fail fall fear feel forget forgive grow guess happen hate hear hope imagine
    keep know laugh last lie like live look-like lose love mean mind miss need never not own perish please
    prefer realise realize recall regret remain remember require rise say see seem sleep smile stay suffer
    suppose survive think trust understand want wait win wish wonder worry
    """
)

# Words that steer the talk itself ("let's start", "I'll come back to that"): tasks only when put off to a named time.
STEERING = word_set(
    """
    admit back begin come consider continue cover describe discuss dive do elaborate explain explore focus give
    go hold introduce jump look move pause play press proceed quickly recap repeat say share show skip spend
    start stick stop tell touch turn use walk
    """
)
# The same, asked of others ("could you speak up", "let's talk about").
STEERING_OTHERS = STEERING - {"share", "use"} | word_set(
    "ask get join read speak summarise summarize take talk try work"
)

# Subjects that are nobody: "it will", "that needs to", "there will".
NOBODY = word_set(
    """
    a all an and any anything anyone but both each either every everything few here how it many more most much
    neither no nobody none nothing one other others part rest several so some something such that the them then
    there these this those time today tomorrow tonight what whatever when where which who whoever why yesterday
    life god nature history things people which price prices market world
    """
)
