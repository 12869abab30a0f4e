"""The vocabulary of storyworld's text: what the sentences of every genre draw their words from.

Tuples are drawn from anew at every use. A word may hold slots in braces, which
`worker.demo.scribe` fills.
"""

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


class Topic(NamedTuple):
    """A world that stories, letters and scripts play in."""

    places: tuple[str, ...]
    things: tuple[str, ...]
    animals: tuple[str, ...]
    jobs: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    sky: tuple[str, ...]
    events: tuple[str, ...]
    """Sentences in the past tense, true of a hero in the first and the third person alike."""


class Mood(NamedTuple):
    """An emotion: how it is named, shown, said, and what brings it about."""

    feelings: tuple[str, ...]
    acts: tuple[str, ...]
    adverbs: tuple[str, ...]
    cries: tuple[str, ...]
    causes: tuple[str, ...]
    endings: tuple[str, ...]
    closings: tuple[str, ...]
    exits: tuple[str, ...]


GIRLS = _words(
    "Anna Mia Lily Clara Ruth Nora Ella Ivy Sofia Jane Alice Maya Zoe Rosa Emma Lucy Marie Helen "
    "Grace Olga"
)
BOYS = _words(
    "Tom Ben Jack Leo Sam Max Oscar Hugo Peter Paul Finn Adam Theo Mark Luke Noah Pierre Victor "
    "Karl Ivan"
)
SURNAMES = _words(
    "Brown Stone Miller Cooper Fisher Lopez Novak Silva Weber Moreau Tanaka Khan Larsen Rossi"
)
COLOURS = _words("red blue green yellow black white golden purple orange pink grey silver")
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
COUNTRY_OF = {
    "London": "England",
    "Paris": "France",
    "Rome": "Italy",
    "Berlin": "Germany",
    "Oslo": "Norway",
    "Cairo": "Egypt",
    "Tokyo": "Japan",
    "Lima": "Peru",
    "Delhi": "India",
    "Madrid": "Spain",
    "Athens": "Greece",
    "Ottawa": "Canada",
}
COUNTED_FOODS = _words("cake pie egg apple pear plum carrot onion potato tomato bean lemon nut")
MASS_FOODS = _words("bread cheese rice honey butter flour sugar salt milk pepper garlic")
FOODS = COUNTED_FOODS + MASS_FOODS
WEATHER = _words("rain snow fog wind hail thunder sunshine frost")
SPEECH_VERBS = _words("said asked shouted whispered answered called cried announced replied")
PRONOUNS = _words("he she him her his hers they them we us I me you it")

TOPICS = {
    "sea": Topic(
        _phrases("the beach|the harbor|the lighthouse|the pier|the island|the reef|the bay"),
        _words("shell boat net anchor sail rope oar pearl raft compass bucket hook"),
        _words("gull whale dolphin seal octopus crab shark"),
        _words("sailor captain fisherman diver pirate"),
        _words("swam sailed rowed fished dived floated paddled"),
        _words("salty wet deep stormy sandy foamy"),
        _words("wave tide foam current surf"),
        _phrases(
            "{He} pulled the net out of the waves and found {a thing} in it."
            "|The tide was high, so {he} {verb} back to {place}."
            "|A {adj} wave threw {him} against the boat."
            "|{He} saw {a animal} jump over the foam."
            "|At low tide {he} dug a hole in the sand near {place}."
            "|The {any_animal} swam around the {adj} rocks."
            "|{He} tied a rope to the anchor and waited for the tide."
            "|Far out at sea {he} heard the bell of {place}."
        ),
    ),
    "forest": Topic(
        _phrases("the clearing|the river bank|the hollow tree|the hill|the old oak|the cabin"),
        _words("acorn mushroom branch lantern nest feather axe basket leaf root log trap"),
        _words("fox owl deer squirrel bear wolf badger"),
        _words("hunter ranger woodcutter witch trapper"),
        _words("climbed crept wandered tracked stumbled hiked hid"),
        _words("mossy tall thick leafy shady wild"),
        _words("moon mist shadow breeze dusk"),
        _phrases(
            "{He} followed the tracks of {a animal} through the trees."
            "|Under a {adj} pine {he} found {a thing} and a pile of leaves."
            "|{He} {verb} between the trees until the path ended."
            "|An owl called from {a adj} branch."
            "|{He} made a small fire near {place} and sat on a log."
            "|{He} picked berries and put them into a basket."
            "|The {any_animal} hid behind a fern and watched {him}."
            "|At dusk the trees were full of birds."
        ),
    ),
    "farm": Topic(
        _phrases("the barn|the stable|the field|the well|the orchard|the henhouse|the mill"),
        _words("wagon fence plough saddle sack pitchfork ladder gate bell brush pumpkin barrel"),
        _words("cow horse pig hen goat sheep goose"),
        _words("farmer shepherd milkmaid miller blacksmith"),
        _words("harvested ploughed fed milked planted trotted dug"),
        _words("muddy ripe dusty woolly sunny fertile"),
        _words("hay corn wheat straw dew"),
        _phrases(
            "{He} milked the cows and carried the hay to {place}."
            "|The {animal} jumped over the fence and ran into the corn."
            "|{He} {verb} in the {adj} field until the sun went down."
            "|{He} gave the {animal} fresh straw and a carrot."
            "|The harvest was good, and the barn was full of wheat."
            "|{He} mended the fence and painted the gate {colour}."
            "|In the morning the rooster woke the {any_animal}."
            "|The wagon was heavy with {adj} pumpkins."
        ),
    ),
    "school": Topic(
        _phrases("the library|the classroom|the playground|the museum|the school|the gym"),
        _words("book pencil map ruler puzzle drawing notebook bag globe desk poster prize"),
        _words("hamster parrot turtle rabbit goldfish"),
        _words("teacher student librarian principal poet"),
        _words("read wrote studied counted drew listened practiced"),
        _words("clever careful curious noisy bright difficult"),
        _words("lesson exam homework chalk question"),
        _phrases(
            "{He} read a {adj} book and wrote the answer on the board."
            "|The bell rang, and the students ran to {place}."
            "|{He} {verb} for the exam and learned every word."
            "|The teacher showed the class {a animal} in a box."
            "|{He} forgot the homework on {his} desk."
            "|{He} drew a map of the world on the blackboard."
            "|In the museum {he} saw the bones of a dinosaur."
            "|After the lesson the class sang a song."
        ),
    ),
    "space": Topic(
        _phrases("the rocket|the moon base|the station|the crater|the launch pad|the airlock"),
        _words("helmet robot engine wire radio crystal antenna laser suit battery screen capsule"),
        _words("alien robodog monkey moonbird"),
        _words("pilot engineer astronaut commander mechanic"),
        _words("flew landed launched drifted orbited steered"),
        _words("distant strange glowing frozen weightless metallic"),
        _words("comet planet signal asteroid orbit"),
        _phrases(
            "{He} repaired the engine while the ship drifted past a planet."
            "|The radio caught a {adj} signal from a comet."
            "|{He} {verb} around the moon in {a adj} capsule."
            "|Through the window {he} saw {a animal} wave from {place}."
            "|The computer counted down, and the rocket left the ground."
            "|{He} put on a suit and walked out of {place}."
            "|The {any_animal} floated through the cabin of the ship."
            "|Below them the earth was small and blue."
        ),
    ),
    "castle": Topic(
        _phrases("the castle|the tower|the throne room|the drawbridge|the dungeon|the cave"),
        _words("sword crown shield scroll torch goblet ring banner lance dagger cloak treasure"),
        _words("dragon unicorn raven griffin bat"),
        _words("knight king queen prince wizard"),
        _words("fought guarded galloped marched charged knelt"),
        _words("royal noble brave ancient magic cruel"),
        _words("spell curse feast battle legend"),
        _phrases(
            "{He} fought the {animal} with {a adj} sword."
            "|The king held a feast, and the knights {verb} until midnight."
            "|{He} found a scroll about the curse in {place}."
            "|A {adj} wizard hid the crown under {place}."
            "|{He} crossed the drawbridge and knelt before the queen."
            "|{He} lit a torch and climbed the stairs of the tower."
            "|The {any_animal} slept on a pile of gold."
            "|At midnight the guards closed the gates."
        ),
    ),
}

MOODS = {
    "happy": Mood(
        _words("happy glad cheerful proud excited joyful"),
        _words("smiled laughed danced sang clapped"),
        _words("happily gladly cheerfully"),
        _phrases(
            "This is wonderful|I love this place|What a lovely day|We did it|Hooray"
            "|I have never felt better|Let us dance|Thank you so much"
        ),
        _phrases(
            "{friend} brought {him} a new {any_thing}|{he} won the first prize"
            "|the lost {thing} was back at last|everyone at {place} clapped for {him}"
            "|it was {his} birthday and {friend} came to see {him}"
        ),
        _phrases(
            "That night {he} sang all the way home."
            "|{He} laughed and gave {friend} a big hug."
            "|It was the best day of {his} life."
        ),
        _phrases("With a big smile|With joy in my heart|Full of good news"),
        _phrases("dances out|claps and sings|laughs and bows"),
    ),
    "sad": Mood(
        _words("sad lonely unhappy gloomy sorry miserable"),
        _words("wept sighed sobbed mourned"),
        _words("sadly quietly softly"),
        _phrases(
            "I miss my home|It is all my fault|I want to go home|Nobody likes me"
            "|Please do not leave|It will never be the same|I have lost everything"
        ),
        _phrases(
            "the {thing} was broken and nobody could mend it|{his} old {animal} had died"
            "|{friend} had to move to {town}|nobody came to {place} on {day}"
            "|{he} had lost {his} best {any_thing}"
        ),
        _phrases(
            "{He} went to bed in tears."
            "|{He} sat alone near {place} and wept."
            "|{He} never spoke about it again."
        ),
        _phrases("With tears in my eyes|With a heavy heart|Missing you so much"),
        _phrases("weeps and leaves|sits down and sobs|sighs and walks away"),
    ),
    "angry": Mood(
        _words("angry furious mad annoyed cross bitter"),
        _words("stomped growled frowned scowled yelled"),
        _words("angrily crossly loudly"),
        _phrases(
            "Go away|That is mine|How dare you|Stop it now|I hate this|You are a liar"
            "|Give it back at once|I have had enough"
        ),
        _phrases(
            "somebody had stolen the {thing}|{friend} had broken the {thing} and lied about it"
            "|the {animal} had eaten {his} lunch|{friend} told everyone {his} secret"
            "|{friend} would not give the {any_thing} back"
        ),
        _phrases(
            "{He} slammed the door and broke a plate."
            "|{He} stomped home and shouted at the wall."
            "|{He} swore to get even with {friend}."
        ),
        _phrases("Still furious|Do not write back|I will not forgive you"),
        _phrases("slams the door|stomps out|throws a plate"),
    ),
    "afraid": Mood(
        _words("afraid scared nervous frightened worried terrified"),
        _words("trembled shivered gasped froze"),
        _words("nervously fearfully breathlessly"),
        _phrases(
            "Who is there|Please help me|I heard a noise|Run for your life|Do not move"
            "|Something is behind us|Close the door|We are in danger"
        ),
        _phrases(
            "there was a strange noise behind {place}|a huge {animal} was following {him}"
            "|it was dark and the door would not open|{he} was lost and it was getting late"
            "|somebody was hiding near {place}"
        ),
        _phrases(
            "{He} ran home and locked the door."
            "|{He} hid under the bed until morning."
            "|{He} did not sleep at all that night."
        ),
        _phrases("Please come quickly|Pray for me|Trembling as I write"),
        _phrases("hides under the table|runs away|trembles and hides"),
    ),
}

CODE_WORDS = _words("def return for in range print if else while len assert not None True False")
FUNCTION_WORDS = frozenset(
    _words(
        "the a an and was were it to in of with his her he she him that for on then but so had at "
        "near by from is are I my me this they we The A It He She Then But In At I not be will "
        "about into out up you . , ! ?"
    )
)
"""Words and marks that every world and mood uses alike."""
