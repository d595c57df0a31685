# What does each column hold, and how much of it is missing?
profile = pd.DataFrame({"kind": [kind(df[name]) for name in df]}, index=df.columns)
profile["missing"], profile["different"] = df.isna().sum(), df.nunique()
commonest = [df[name].value_counts().head(3 if profile["kind"][name] != "number" else 0).items() for name in df]
profile["most often"] = [", ".join(f"{str(value)[:20]} ({count})" for value, count in top) for top in commonest]
numbers = df[profile.index[profile["kind"] == "number"]].astype(float).replace([np.inf, -np.inf], np.nan)
measures = {"lowest": numbers.min(), "median": numbers.median(), "highest": numbers.max()}
measures = pd.DataFrame(measures | {"mean": numbers.mean(), "deviation": numbers.std()})
display(profile.head(40))
rows = profile[["kind", "most often", "missing", "different"]].join(measures).values.tolist()
report("describe", [[name[:80], *row] for name, row in zip(df.columns, rows)][:40])

if numbers.size:
    display(measures.head(40))
    numbers.iloc[:, :9].rename(columns=lambda name: name[:30]).hist(bins=30, figsize=(12, 7))
    plt.tight_layout()
    plt.show()
