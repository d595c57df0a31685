"""A cell for each package that the image `full` has besides those of `datascience`: a small piece of its real work."""

CELLS = {
    "bokeh": """
from bokeh.embed import file_html
from bokeh.plotting import figure
chart = figure(); chart.line([1, 2], [3, 4])
assert "bk-" in file_html(chart) or "Bokeh" in file_html(chart)""",
    "chardet": """
import chardet
assert chardet.detect("Größe und Maße, schön".encode("utf-8") * 5)["encoding"].lower() == "utf-8\"""",
    "duckdb": """
import duckdb, pandas
frame = pandas.DataFrame({"x": [1, 2, 3]})
assert duckdb.sql("select sum(x) from frame").fetchall() == [(6,)]""",
    "faker": """
from faker import Faker
Faker.seed(1)
assert Faker().name() and Faker("ja_JP").address()""",
    "flask": """
import flask
app = flask.Flask("app")
app.route("/")(lambda: "hello")
assert app.test_client().get("/").text == "hello\"""",
    "folium": """
import folium
chart = folium.Map([52.5, 13.4]); folium.Marker([52.5, 13.4]).add_to(chart)
assert "leaflet" in chart.get_root().render()""",
    "gensim": """
from gensim.models import Word2Vec
model = Word2Vec([["king", "queen", "man"], ["apple", "pear"]] * 20, vector_size=8, min_count=1, workers=1, seed=1)
assert model.wv["king"].shape == (8,)""",
    "geopandas": """
import geopandas, shapely
places = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(13.4, 52.5)], crs=4326)
assert abs(places.to_crs(3857).geometry.x[0] - 1491681) < 2
places.to_file("/mnt/data/places.gpkg"); assert len(geopandas.read_file("/mnt/data/places.gpkg")) == 1""",
    "h5py": """
import h5py
with h5py.File("/mnt/data/a.h5", "w") as file: file["x"] = [1.0, 2.0]
assert list(h5py.File("/mnt/data/a.h5")["x"]) == [1.0, 2.0]""",
    "imageio": """
import imageio.v3, numpy
frames = [numpy.full((16, 16, 3), n * 60, "uint8") for n in range(4)]
imageio.v3.imwrite("/mnt/data/a.gif", frames)
assert len(imageio.v3.imread("/mnt/data/a.gif")) == 4""",
    "lightgbm": """
import lightgbm, numpy
x = numpy.arange(200.0).reshape(-1, 1)
model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(x, 2 * x[:, 0])
assert abs(model.predict(x[100:101])[0] - 200) < 40""",
    "moviepy": """
import moviepy, numpy
clip = moviepy.VideoClip(lambda t: numpy.full((32, 32, 3), int(t * 200), "uint8"), duration=1)
clip.write_videofile("/mnt/data/a.mp4", fps=8, logger=None)
assert abs(moviepy.VideoFileClip("/mnt/data/a.mp4").duration - 1) < 0.2""",
    "nltk": """
import nltk
assert nltk.PorterStemmer().stem("running") == "run"
assert nltk.edit_distance("kitten", "sitting") == 3""",
    "numba": """
import numba
@numba.njit
def total(n):
    s = 0
    for i in range(n): s += i
    return s
assert total(1000) == 499500""",
    "opencv-python-headless": """
import cv2, numpy
picture = numpy.zeros((64, 64, 3), "uint8"); cv2.circle(picture, (32, 32), 10, (255, 255, 255), -1)
found, _ = cv2.findContours(picture[..., 0].copy(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
assert len(found) == 1 and cv2.imdecode(cv2.imencode(".png", picture)[1], 1).shape == (64, 64, 3)""",
    "polars": """
import polars
frame = polars.DataFrame({"k": ["a", "a", "b"], "v": [1, 2, 3]})
assert frame.group_by("k").agg(polars.col("v").sum()).sort("k")["v"].to_list() == [3, 3]
assert frame.to_pandas().shape == (3, 2)""",
    "pydub": """
from pydub import AudioSegment
from pydub.generators import Sine
Sine(440).to_audio_segment(duration=300).export("/mnt/data/a.wav", format="wav")
assert abs(len(AudioSegment.from_wav("/mnt/data/a.wav")) - 300) < 5
Sine(440).to_audio_segment(duration=300).export("/mnt/data/a.mp3", format="mp3")
assert open("/mnt/data/a.mp3", "rb").read(2)""",
    "pytest": """
open("/tmp/test_it.py", "w").write("def test_sum(): assert 1 + 1 == 2")
import subprocess, sys
command = [sys.executable, "-m", "pytest", "-q", "/tmp/test_it.py"]
said = subprocess.run(command, capture_output=True, text=True, cwd="/tmp")
assert "1 passed" in said.stdout, said""",
    "qrcode": """
import qrcode, cv2, numpy
picture = numpy.array(qrcode.make("hello").convert("L"))
assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == "hello\"""",
    "scikit-image": """
import skimage.data, skimage.filters
assert skimage.filters.threshold_otsu(skimage.data.camera()) > 50""",
    "scrapy": """
import scrapy
page = scrapy.http.HtmlResponse("http://x", body=b"<p class='a'>text</p>", encoding="utf-8")
assert page.css("p.a::text").get() == "text\"""",
    "shap": """
import numpy, shap, sklearn.ensemble
x = numpy.random.default_rng(0).normal(size=(100, 3))
model = sklearn.ensemble.RandomForestRegressor(10, random_state=0).fit(x, x[:, 0])
assert numpy.abs(shap.TreeExplainer(model).shap_values(x)).mean(0).argmax() == 0""",
    "shapely": """
import shapely
assert shapely.box(0, 0, 2, 2).intersection(shapely.box(1, 1, 3, 3)).area == 1""",
    "spacy": """
import spacy
nlp = spacy.blank("en"); nlp.add_pipe("sentencizer")
assert [s.text for s in nlp("One here. Two there.").sents] == ["One here.", "Two there."]""",
    "tables": """
import pandas
pandas.DataFrame({"x": [1, 2]}).to_hdf("/mnt/data/t.h5", key="t", format="table")
assert pandas.read_hdf("/mnt/data/t.h5", "t").x.sum() == 3""",
    "textblob": """
from textblob import TextBlob
assert TextBlob("a wonderful day").sentiment.polarity > 0.5""",
    "wordcloud": """
from wordcloud import WordCloud
font = "/usr/share/fonts/NotoSansCJKjp-Regular.otf"
assert WordCloud(width=60, height=40).generate("one two three").to_array().shape == (40, 60, 3)
WordCloud(font_path=font).generate("日本語 中文 한국어")""",
    "xarray": """
import numpy, xarray
cube = xarray.DataArray(numpy.arange(6).reshape(2, 3), dims=("t", "x"))
assert cube.mean("t").values.tolist() == [1.5, 2.5, 3.5]
cube.to_dataset(name="v").to_netcdf("/mnt/data/c.nc")""",
}
