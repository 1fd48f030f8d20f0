"""The 256 words of the codes: plain, and told apart by their first four letters and by one mistyped letter."""

_TEXT = """
acorn adobe agate alarm almond anchor animal apple apron arcade arctic armor aspen atlas autumn
avocado badger bamboo banjo basil beacon bison blanket blossom bonsai bramble bronze bucket buffalo
cabin cactus canyon carpet castle cedar cello cherry chimney cinema circle citrus clover coffee
comet coral cotton cradle crater cricket crystal cushion cyclone daisy dancer delta denim desert
diamond dolphin dragon drummer dune eagle echo eclipse elbow ember emerald engine envelope evening
fabric falcon feather field finch flamingo flute fossil fountain fridge frost furnace galaxy garden
gazelle geyser giraffe glacier goblet granite grape guitar gull gypsum hammer hazel hedge hiking
honey horizon hummus iceberg igloo index indigo insect iris ivory jaguar jasmine jelly jigsaw jockey
jungle juniper kayak kernel kettle kiosk kiwi koala lagoon lantern lapis laurel lemon lettuce
library lilac linen llama lobster lotus lyric magnet mango marble melon meteor mimosa mirror mitten
monsoon mosaic museum mustard napkin nebula needle nickel ninja noodle nutmeg oatmeal ocean octopus
olive onion opera orange orbit orchid osprey otter oxygen palette panda papaya parrot peanut pebble
pencil pepper piano picnic pigeon pillow plum poppy potato prairie puffin pumpkin puzzle quartz
quilt quiver rabbit radar raven reef ribbon robin rosemary ruby rudder saddle sandal sapphire saturn
scarf sculptor seashell shadow shelter silver sketch slipper snail sonnet spinach sponge squirrel
stable summit sunset swan symbol teapot tempo thistle thunder tiger toast tomato topaz tractor
trumpet tulip tundra turtle twig umbrella unicorn upland valley vanilla velvet vessel village violin
volcano waffle walnut wharf whisper window winter wizard wombat yoga yogurt zebra zenith zigzag
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
